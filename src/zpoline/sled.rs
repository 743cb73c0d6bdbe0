//! The page at address 0. `call *%rax` at a patched site comes to the address that is the number of
//! the system call, and runs on to the fast path from there, whatever the number.
#![forbid(unsafe_code)]

use super::layout::{CODE, SLED_BYTES, SLED_NUMBERS};

/// Longest instruction: so many prefixes and one NOP.
const LONGEST_NOP: usize = 15;
/// Where the first leap lies: behind the calls that are answered in the process.
const FIRST_LEAP: usize = 62;
/// Bytes from one leap to the next.
const LEAP: usize = 129;
/// `jmp` to the next leap. Its second byte is also an instruction that stays in the sled: `jg`.
const LEAP_CODE: [u8; 2] = [0xeb, 0x7f];

/// The page.
pub(super) fn sled() -> Vec<u8> {
    let end = SLED_NUMBERS as usize;
    let mut bytes = vec![0x66; SLED_BYTES as usize];
    let mut from = 0;
    let mut leap = FIRST_LEAP;
    while leap + LEAP + LEAP_CODE.len() < end {
        fill(&mut bytes[from..leap]);
        from = leap + LEAP_CODE.len();
        bytes[leap..from].copy_from_slice(&LEAP_CODE);
        leap += LEAP;
    }
    fill(&mut bytes[from..end]);
    let distance = (CODE - SLED_BYTES) as u32;
    bytes[end] = 0xe9;
    bytes[end + 1..].copy_from_slice(&distance.to_le_bytes());
    bytes
}

/// NOPs with as many prefixes as an instruction may have: entered at any byte, what is left of one is
/// one too.
fn fill(run: &mut [u8]) {
    for nop in run.chunks_mut(LONGEST_NOP) {
        if let Some((last, prefixes)) = nop.split_last_mut() {
            prefixes.fill(0x66);
            *last = 0x90;
        }
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

    use super::*;

    /// Follows the sled from `start`; at a `jg` both ways.
    fn leads_to_code(sled: &[u8], start: u64, jumps: &mut usize) -> bool {
        let mut at = start;
        loop {
            let mut decoder = Decoder::with_ip(64, &sled[at as usize..], at, DecoderOptions::NONE);
            let instruction: Instruction = decoder.decode();
            match instruction.code() {
                Code::Nopw => at = instruction.next_ip(),
                Code::Nopd => at = instruction.next_ip(),
                Code::Jmp_rel8_64 => {
                    *jumps += 1;
                    at = instruction.near_branch_target();
                }
                Code::Jg_rel8_64 => {
                    let taken = instruction.near_branch_target();
                    assert!(leads_to_code(sled, taken, jumps));
                    at = instruction.next_ip();
                }
                Code::Jmp_rel32_64 => return instruction.near_branch_target() == CODE,
                other => panic!("{other:?} at {at} from {start}"),
            }
        }
    }

    #[test]
    fn every_number_leads_to_the_fast_path() {
        let sled = sled();
        assert_eq!(sled.len() as u64, SLED_BYTES);
        for number in 0..=SLED_NUMBERS {
            let mut jumps = 0;
            assert!(leads_to_code(&sled, number, &mut jumps), "{number}");
            assert!(jumps < 64, "{jumps} jumps from {number}");
        }
    }
}

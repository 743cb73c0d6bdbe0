//! Trapped calls in strace's form, for the debug log.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::{
    call::Call,
    calls::{Argument, TrappedCall},
};
use crate::emul::{
    address,
    outcome::{Answer, Outcome},
    socket::Family,
};

/// The call and its arguments, as strace(1) prints them.
pub(super) fn call(row: &TrappedCall, call: &Call<'_>) -> String {
    let mut text = format!("[{}] {}(", call.tid(), row.name);
    for (index, argument) in row.arguments.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write_argument(&mut text, *argument, index, call);
    }
    text.push(')');
    text
}

fn write_argument(text: &mut String, argument: Argument, index: usize, call: &Call<'_>) {
    // Writing to a String cannot fail.
    let _ = match argument {
        Argument::Int => write!(text, "{}", call.int(index)),
        Argument::Hex => write!(text, "{:#x}", call.int(index)),
        Argument::Pointer if call.pointer(index).is_null() => write!(text, "NULL"),
        Argument::Pointer => write!(text, "{:#x}", call.pointer(index).address()),
        Argument::Address => write!(text, "{}", sockaddr(call, index)),
    };
}

fn sockaddr(call: &Call<'_>, index: usize) -> String {
    let length = usize::try_from(call.int(index + 1)).unwrap_or(0);
    let pointer = call.pointer(index);
    let raw = || format!("{:#x}", pointer.address());
    let Ok(bytes) = call.read(pointer, length.min(address::MAX_BYTES)) else {
        return raw();
    };
    let parsed = [Family::V4, Family::V6]
        .into_iter()
        .find_map(|family| address::parse(&bytes, family).ok());
    match (parsed, address::family_of(&bytes)) {
        (Some(parsed), _) => format!("{{{parsed}}}"),
        (None, Some(family)) => format!("{{sa_family={family}}}"),
        (None, None) => raw(),
    }
}

/// The result, as strace(1) prints it, or why there is none yet.
pub(super) fn answer(answer: &Answer) -> String {
    match answer {
        Ok(Outcome::Value(value)) => format!("= {value}"),
        Ok(Outcome::Inject(_)) => "= a new descriptor".to_owned(),
        Ok(Outcome::Native(reason)) => format!("left to the kernel: {reason}"),
        Ok(Outcome::Park(wait)) => format!("waits ({wait:?})"),
        Err(errno) => format!("= -1 {errno:?} ({})", errno.desc()),
    }
}

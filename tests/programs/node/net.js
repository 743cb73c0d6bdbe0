// net.js server PORT, net.js client PORT: half-open sockets. The client sends all and ends; only then does the
// server, which has counted and summed, answer on the other half. Also: a reset, and a refusal.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const net = require('net');

const [, , role, port, closedPort] = process.argv;
const COUNT = 30, SIZE = 500_000, ANSWERS = 1000;

function serve() {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const sum = crypto.createHash('sha256');
    let size = 0;
    socket.on('error', (error) => console.log(`error ${error.code}`));
    socket.on('data', (chunk) => { sum.update(chunk); size += chunk.length; });
    socket.on('end', () => {
      if (size === 0) { socket.resetAndDestroy(); return; }
      const line = `${size} ${sum.digest('hex')}\n`;
      for (let i = 0; i < ANSWERS; i++) socket.write(line);
      socket.end();
    });
  });
  server.listen(Number(port), '::', () => console.log('listening'));
}

function talk(host) {
  return new Promise((resolve, reject) => {
    const data = crypto.randomBytes(SIZE);
    const socket = net.connect({ host, port: Number(port), allowHalfOpen: true });
    let back = '';
    socket.setEncoding('latin1');
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 1000);
    socket.on('connect', () => socket.end(data));
    socket.on('data', (text) => { back += text; });
    socket.on('error', reject);
    socket.on('end', () => {
      const sum = crypto.createHash('sha256').update(data).digest('hex');
      assert.strictEqual(back, `${SIZE} ${sum}\n`.repeat(ANSWERS));
    });
    socket.on('close', (failed) => (failed ? reject(new Error('failed')) : resolve()));
  });
}

function errorOf(options, onConnect) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: '127.0.0.1', ...options }, () => onConnect?.(socket));
    socket.on('error', (error) => resolve(`${error.syscall} ${error.code}`));
    socket.on('end', () => reject(new Error('ended without an error')));
    socket.resume();
  });
}

async function ask() {
  const hosts = ['127.0.0.1', '::1'];
  await Promise.all(Array.from({ length: COUNT }, (_, i) => talk(hosts[i % 2])));
  console.log(`${COUNT} answered after the end`);
  console.log('reset:', await errorOf({ port, allowHalfOpen: true }, (socket) => socket.end()));
  console.log('refused:', await errorOf({ port: closedPort }));
}

if (role === 'server') serve(); else ask();

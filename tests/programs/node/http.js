// http.js server PORT, http.js client PORT: an agent that keeps connections, uploads and downloads.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const http = require('http');

const [, , role, port] = process.argv;
const ROUNDS = 20, AT_ONCE = 8, SIZE = 300_000;

function serve() {
  let connections = 0;
  const server = http.createServer((request, response) => {
    response.setHeader('peer', `${request.socket.remoteAddress} ${request.socket.remotePort}`);
    response.setHeader('connections', connections);
    request.pipe(response);
  });
  server.on('connection', () => connections++);
  server.listen(Number(port), '127.0.0.1', () => console.log('listening'));
}

function post(agent, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, agent, method: 'POST' }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ response, back: Buffer.concat(chunks) }));
    });
    request.on('error', reject);
    request.on('finish', () => {
      const { localAddress, localPort } = request.socket;
      request.self = `${localAddress} ${localPort}`;
    });
    request.on('response', (response) => assert.strictEqual(response.headers.peer, request.self));
    request.end(body);
  });
}

async function ask() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
  let connections;
  for (let round = 0; round < ROUNDS; round++) {
    const bodies = Array.from({ length: AT_ONCE }, () => crypto.randomBytes(SIZE));
    const answers = await Promise.all(bodies.map((body) => post(agent, body)));
    answers.forEach(({ back }, i) => assert(back.equals(bodies[i]), `${back.length} bytes`));
    connections = answers[0].response.headers.connections;
  }
  agent.destroy();
  assert.strictEqual(Number(connections), AT_ONCE);
  console.log(`${ROUNDS * AT_ONCE} echoed on ${connections} connections`);
}

if (role === 'server') serve(); else ask();

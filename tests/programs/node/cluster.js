// cluster.js PORT: two workers on one port. With NODE_CLUSTER_SCHED_POLICY=rr the primary accepts and hands the
// connections over; with "none" the workers share the listener. Each answer names the worker.
'use strict';
const cluster = require('cluster');
const http = require('http');

if (cluster.isPrimary) {
  let ready = 0;
  cluster.on('listening', () => { if (++ready === 2) console.log('listening'); });
  cluster.on('exit', (worker, code, signal) => { if (signal) { ready = 1; cluster.fork(); } });
  cluster.fork();
  cluster.fork();
  process.on('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
} else {
  http.createServer((request, response) => {
    const body = `${process.pid} ${request.socket.remoteAddress} ${request.socket.localPort}\n`;
    response.writeHead(200, { connection: 'close' });
    response.end(body);
  }).listen(Number(process.argv[2]), '127.0.0.1');
  process.on('SIGTERM', () => {});
}

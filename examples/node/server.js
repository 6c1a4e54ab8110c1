// A web server from Node's standard library, on the port that Config.toml names (as PORT).
import { createServer } from 'node:http';

const port = Number(process.env.PORT ?? 3000);

const server = createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`Hello from Node.js ${process.version}, version 1\n`);
  console.log(request.method, request.url, response.statusCode);
});

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    // Answers what is under way, then ends; idle keep-alive connections are closed at once.
    server.close(() => console.log('stopped'));
    server.closeIdleConnections();
  });
}

server.listen(port, '0.0.0.0', () => console.log(`listening on port ${port}`));

// Starts a `longshore standalone` of its own for the audits: free port, temporary data directory.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A TCP port of 127.0.0.1 that was free a moment ago. */
async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/**
 * Runs `use({ url, token })` against a fresh server and ends the server whatever happens.
 * When `use` fails, the server's last words are printed.
 */
export async function withServer(binary, use) {
  const dataDir = await mkdtemp(join(tmpdir(), 'longshore-audit-'));
  const url = `http://127.0.0.1:${await freePort()}`;
  const server = spawn(binary, ['standalone', '--data-dir', dataDir, '--listen', url.slice('http://'.length)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  const keep = (chunk) => (log = (log + chunk).slice(-8000));
  server.stdout.on('data', keep);
  server.stderr.on('data', keep);
  const ended = new Promise((resolve) => {
    server.once('error', (error) => resolve(`it could not be started: ${error.message}`));
    server.once('exit', (code, signal) => resolve(`it ended with ${signal ?? code}`));
  });
  try {
    await ready(url, ended);
    const token = (await readFile(join(dataDir, 'admin-token'), 'utf8')).trim();
    return await use({ url, token });
  } catch (error) {
    console.error(`--- the server's last words\n${log}\n---`);
    throw error;
  } finally {
    server.kill('SIGTERM');
    await Promise.race([ended, delay(15_000).then(() => server.kill('SIGKILL'))]);
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** Waits until the server answers that it is ready, at most a minute. */
async function ready(url, ended) {
  const deadline = Date.now() + 60_000;
  let last = 'no answer';
  while (Date.now() < deadline) {
    const outcome = await Promise.race([
      ended.then((how) => ({ how })),
      fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2000) }).then(
        async (response) => ({ ok: response.ok, last: `${response.status} ${await response.text()}` }),
        (error) => ({ last: error.cause?.code ?? error.message }),
      ),
    ]);
    if (outcome.how) throw new Error(`the server did not start: ${outcome.how}`);
    if (outcome.ok) return;
    last = outcome.last;
    await delay(50);
  }
  throw new Error(`the server was not ready within a minute: ${last}`);
}

// node audit.mjs BINARY: audits the GraphQL endpoint of the given `longshore` binary.
import { auditHttp } from './http.mjs';
import { withServer } from './server.mjs';
import { auditSubscription } from './subscription.mjs';

const [binary] = process.argv.slice(2);
if (!binary) {
  console.error('usage: node audit.mjs BINARY');
  process.exit(64);
}

let failed = false;
await withServer(binary, async (server) => {
  // The second runs whatever the first found: one look at the output should tell everything.
  for (const audit of [auditHttp, auditSubscription]) {
    try {
      await audit(server);
    } catch (error) {
      failed = true;
      console.error(`${audit.name}: ${error.message}`);
    }
  }
});
process.exit(failed ? 1 : 0);

// graphql-transport-ws, by its reference client: a stranger is refused, and a subscriber sees a
// deployment go from its first step to its last.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const PATIENCE_MS = 60_000;
const NAME = 'subscription-smoke';

function connect(url, connectionParams) {
  return createClient({
    url: `${url.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams,
    retryAttempts: 0,
    lazy: true,
  });
}

async function request({ url, token }, query, variables) {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(`${query.trim()}: ${JSON.stringify(errors)}`);
  return data;
}

/** The socket of somebody without a token is closed before it has subscribed to anything. */
async function strangerIsRefused({ url }) {
  const client = connect(url, {});
  try {
    for await (const event of client.iterate({ query: 'subscription { nodeStatus { id } }' })) {
      throw new TypeError(`a stranger was sent ${JSON.stringify(event)}`);
    }
  } catch (error) {
    if (error instanceof TypeError) throw error;
    // A close code says that the server refused; anything else would be a server that is not there.
    if (error.code >= 4400 || error.code === 1002 || error.code === 1008) return;
    throw new Error(`a stranger was not refused but: ${error.message ?? error.code}`);
  } finally {
    await client.dispose();
  }
  throw new Error('a stranger could subscribe');
}

/** Deploys from a port where nobody listens, and follows the revision to FAILED. */
async function statusIsFollowed(server) {
  const client = connect(server.url, { Authorization: `Bearer ${server.token}` });
  const seen = [];
  const timer = setTimeout(() => client.terminate(), PATIENCE_MS);
  try {
    const connected = new Promise((resolve) => client.on('connected', resolve));
    const events = client.iterate({
      query: 'subscription { deploymentStatus { deploymentId seq status failureReason } }',
    });
    const first = events.next();
    await Promise.race([connected, first]);
    // An answer on the same socket says that the server has read the subscription before it.
    await client.iterate({ query: '{ __typename }' }).next();
    const { createDeployment } = await request(
      server,
      `mutation ($name: String!, $url: String!) {
        createDeployment(input: { name: $name, git: { url: $url } }) { id }
      }`,
      { name: NAME, url: 'http://127.0.0.1:1/none.git' },
    );
    for (let next = first; ; next = events.next()) {
      const { value, done } = await next;
      if (done) throw new Error(`the subscription ended after ${JSON.stringify(seen)}`);
      if (value.errors) throw new Error(JSON.stringify(value.errors));
      const event = value.data.deploymentStatus;
      if (event.deploymentId !== createDeployment.id) continue;
      seen.push(event);
      if (event.status === 'FAILED') break;
    }
    await events.return();
  } catch (error) {
    throw new Error(`after ${JSON.stringify(seen)}: ${error.message ?? error.reason ?? error}`, { cause: error });
  } finally {
    clearTimeout(timer);
    await client.dispose();
  }
  return seen;
}

/** Throws unless the server's subscriptions behave as the protocol and the API say. */
export async function auditSubscription(server) {
  await strangerIsRefused(server);
  const seen = await statusIsFollowed(server);
  const steps = seen.map(({ status }) => status).join(' → ');
  console.log(`graphql-transport-ws: a stranger is refused; a subscriber saw ${steps}`);
  const rising = seen.every(({ seq }, i) => i === 0 || seq > seen[i - 1].seq);
  if (seen[0].status !== 'REQUESTED' || !rising || seen.at(-1).failureReason !== 'FETCH_FAILED') {
    throw new Error(`expected rising steps from REQUESTED to FETCH_FAILED: ${JSON.stringify(seen)}`);
  }
}

// GraphQL over HTTP, by the audits of the reference implementation: every MUST and SHOULD has to hold.
import { auditServer } from 'graphql-http';

/** MAYs that are MUSTs for us. 9C48: a mutation by GET would let any web page act for its visitor. */
const OURS_TOO = new Set(['9C48']);
const LEVELS = { error: 'MUST', warn: 'SHOULD', notice: 'MAY' };

/** Runs all audits against the server, prints what they found, and throws if a MUST or SHOULD fails. */
export async function auditHttp({ url, token }) {
  const results = await auditServer({
    url: `${url}/graphql`,
    fetchFn: (target, init = {}) =>
      fetch(target, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
  });
  const failed = results.filter(({ status }) => status !== 'ok');
  for (const { id, name, status, reason } of failed) {
    console.log(`  ${LEVELS[status]} ${id} ${name}: ${reason}`);
  }
  const count = (status) => failed.filter((result) => result.status === status).length;
  console.log(
    `GraphQL over HTTP: ${results.length} audits, ${results.length - failed.length} ok, ` +
      `${count('error')} MUST, ${count('warn')} SHOULD and ${count('notice')} MAY not met`,
  );
  if (results.length === 0) throw new Error('no audit ran');
  if (failed.some(({ id, status }) => status !== 'notice' || OURS_TOO.has(id))) {
    throw new Error('the endpoint does not follow GraphQL over HTTP');
  }
}

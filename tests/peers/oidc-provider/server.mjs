// A real authorization server (panva's oidc-provider, the OpenID-certified one)
// on a loopback port of its own choice, with a journal of what clients sent it.
//
// Prints one line of JSON when it listens and exits when its stdin closes, so
// that it cannot outlive the test that started it. README.md lists the options
// and the /lab/ endpoints.
import { createHash } from 'node:crypto';
import http from 'node:http';
import { parseArgs } from 'node:util';
import { load } from '../peers.mjs';
import * as exchange from './exchange.mjs';

const { values: opt } = parseArgs({
  options: {
    client: { type: 'string', default: 'valetkey-test' },
    redirect: { type: 'string', multiple: true }, // default: see below
    'access-ttl': { type: 'string', default: '3600' },
    'refresh-ttl': { type: 'string', default: '86400' },
    'device-ttl': { type: 'string', default: '600' },
    'device-interval': { type: 'string' }, // the real server sends none
    'always-refresh': { type: 'boolean', default: false }, // without offline_access
    'no-rotation': { type: 'boolean', default: false },
    registration: { type: 'boolean', default: false }, // RFC 7591
    'only-pushed': { type: 'boolean', default: false }, // RFC 9126
    'client-document': { type: 'string' }, // its URL; the document itself is made up here
  },
});
const loopbacks = ['127.0.0.1', '[::1]', 'localhost'];
const redirects = opt.redirect ?? loopbacks.flatMap((h) => [`http://${h}/`, `http://${h}/callback`]);

let accessTtl = Number(opt['access-ttl']);

const { Provider } = await load('oidc-provider/lib/index.js');

// ---- storage: the only reason not to use the built-in one is /lab/ ----------
const store = new Map(); // 'Model:id' -> { payload, until }
const grantBound = ['AccessToken', 'AuthorizationCode', 'RefreshToken', 'DeviceCode', 'Grant'];

class Memory {
  constructor(model) {
    this.model = model;
  }
  async upsert(id, payload, ttl) {
    store.set(`${this.model}:${id}`, { payload, until: ttl ? Date.now() + ttl * 1000 : Infinity });
  }
  async find(id) {
    const held = store.get(`${this.model}:${id}`);
    return held && held.until > Date.now() ? held.payload : undefined;
  }
  async #by(field, value) {
    for (const [key, { payload }] of store) {
      if (key.startsWith(`${this.model}:`) && payload[field] === value) {
        return this.find(key.slice(this.model.length + 1));
      }
    }
    return undefined;
  }
  findByUid(uid) {
    return this.#by('uid', uid);
  }
  findByUserCode(code) {
    return this.#by('userCode', code);
  }
  async consume(id) {
    store.get(`${this.model}:${id}`).payload.consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    store.delete(`${this.model}:${id}`);
  }
  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of store) if (payload.grantId === grantId) store.delete(key);
  }
}

// ---- journal: secrets appear as the hex SHA-256 of their value --------------
let journal = [];
const sha = (value) => createHash('sha256').update(String(value)).digest('hex');
const secret = /^(subject_token|code|code_verifier|access_token|refresh_token|token|device_code|id_token|client_secret|client_assertion)$/;
const hushed = (form) =>
  Object.fromEntries(Object.entries(form ?? {}).map(([k, v]) => [k, secret.test(k) ? sha(v) : v]));

async function record(ctx, next) {
  const entry = { method: ctx.method, path: ctx.path, query: hushed(ctx.query), form: {}, status: null };
  if (ctx.get('authorization')) {
    const [scheme, ...rest] = ctx.get('authorization').split(' ');
    entry.authorization = { scheme, sha256: sha(rest.join(' ')) };
  }
  journal.push(entry);
  try {
    await next();
    if (opt['device-interval'] && ctx.body?.device_code) {
      ctx.body = { ...ctx.body, interval: Number(opt['device-interval']) };
    }
  } finally {
    entry.form = hushed(ctx.oidc?.body);
    entry.status = ctx.status;
    if (ctx.status >= 300 && ctx.status < 400) {
      const to = new URL(ctx.response.get('location'), provider.issuer);
      [entry.location] = ctx.response.get('location').split('?');
      entry.parameters = hushed(Object.fromEntries(to.searchParams));
    }
    const answer = ctx.body;
    if (answer?.error) entry.error = answer.error;
    if (answer?.access_token) {
      entry.issued = { ...hushed({ access_token: answer.access_token }), expires_in: answer.expires_in, scope: answer.scope };
      if (answer.refresh_token) entry.issued.refresh_token = sha(answer.refresh_token);
    }
  }
}

async function lab(req, res, provider) {
  const url = new URL(req.url, provider.issuer);
  const token = url.searchParams.get('token');
  const answer = (status, value) => {
    res.writeHead(status, { 'content-type': 'application/json' });
    res.end(`${JSON.stringify(value)}\n`);
  };
  switch (`${req.method} ${url.pathname}`) {
    case 'GET /lab/journal':
      return answer(200, journal);
    case 'GET /lab/identity': // as the runner of GitHub Actions answers
      return answer(200, { value: exchange.vouch(url.searchParams.get('audience'), url.searchParams.get('sub')) });
    case 'POST /lab/reset': // the journal; with ?all also every session, grant and token
      journal = [];
      if (url.searchParams.has('all')) store.clear();
      return answer(200, true);
    case 'GET /lab/live':
      return answer(200, Boolean(token && (await provider.AccessToken.find(token))));
    case 'POST /lab/access-ttl': // for the tokens that are issued from now on
      accessTtl = Number(url.searchParams.get('seconds'));
      return answer(200, accessTtl);
    case 'POST /lab/revoke-access': {
      const found = token && (await provider.AccessToken.find(token));
      await found?.destroy();
      return answer(200, Boolean(found));
    }
    case 'POST /lab/revoke-grants': // every grant with all its tokens; sessions stay
      for (const key of store.keys()) if (grantBound.includes(key.split(':')[0])) store.delete(key);
      return answer(200, true);
    default:
      return answer(404, 'no such lab endpoint');
  }
}

// ---- the server -------------------------------------------------------------
let handler = (req, res) => res.writeHead(503).end();
const server = http.createServer((req, res) => handler(req, res));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  adapter: Memory,
  clients: [
    {
      client_id: opt.client,
      client_name: 'valetkey under test',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code', exchange.grant],
      response_types: ['code'],
      redirect_uris: redirects,
    },
  ],
  scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
  claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `User ${id}`, email: `${id}@example.test` }),
  }),
  // Nothing of the internet is there to be fetched.
  fetch: async (url) =>
    String(url) === opt['client-document']
      ? Response.json({
          client_id: opt['client-document'],
          client_name: 'a copy of valetkey',
          application_type: 'native',
          token_endpoint_auth_method: 'none',
          grant_types: ['authorization_code', 'refresh_token'],
          response_types: ['code'],
          redirect_uris: ['http://127.0.0.1/callback'],
        })
      : Promise.reject(new Error(`nobody fetches ${url}`)),
  cookies: { keys: [sha(Math.random())] },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    userinfo: { enabled: true },
    registration: { enabled: opt.registration },
    registrationManagement: { enabled: opt.registration },
    pushedAuthorizationRequests: {
      enabled: true,
      requirePushedAuthorizationRequests: opt['only-pushed'],
    },
    ...(opt['client-document']
      ? { clientIdMetadataDocument: { enabled: true, ack: 'draft-02' } }
      : {}),
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => ({
        audience: resource,
        scope: 'api:read api:write',
        accessTokenFormat: 'opaque',
      }),
      useGrantedResource: () => true,
    },
  },
  ...(opt['no-rotation'] ? { rotateRefreshToken: false } : {}),
  ...(opt['always-refresh'] ? { issueRefreshToken: () => true } : {}),
  ttl: {
    AccessToken: () => accessTtl,
    RefreshToken: Number(opt['refresh-ttl']),
    DeviceCode: Number(opt['device-ttl']),
    AuthorizationCode: 60,
    IdToken: 3600,
    Interaction: 3600,
    Grant: 86400,
    Session: 86400,
  },
});
provider.use(record);
exchange.register(provider);
const oauth = provider.callback();
handler = (req, res) => (req.url.startsWith('/lab/') ? lab(req, res, provider) : oauth(req, res));

console.log(JSON.stringify({ issuer, port, control: `${issuer}/lab/`, client_id: opt.client }));

process.stdin.resume();
process.stdin.on('close', () => process.exit(0));
process.stdin.on('end', () => process.exit(0));

// RFC 8693 at oidc-provider, and the platform that vouches for a job there: it signs identity tokens,
// and the grant takes each of them once, for this issuer, while it lives.
import { createHmac, randomBytes } from 'node:crypto';

export const grant = 'urn:ietf:params:oauth:grant-type:token-exchange';
const jwt = 'urn:ietf:params:oauth:token-type:jwt';
const access = 'urn:ietf:params:oauth:token-type:access_token';

const key = randomBytes(32);
const sign = (text) => createHmac('sha256', key).update(text).digest('base64url');
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** An identity token, as the platform gives it. */
export function vouch(audience, subject) {
  const exp = Math.floor(Date.now() / 1000) + 300;
  const claims = { iss: 'https://platform.example', sub: subject, aud: audience, exp, jti: randomBytes(8).toString('hex') };
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${text}.${sign(text)}`;
}

const shown = new Set();

function verified(token, audience) {
  const [header, payload, signature] = token.split('.');
  if (signature !== sign(`${header}.${payload}`)) return 'its signature is wrong';
  const claims = JSON.parse(Buffer.from(payload, 'base64url'));
  if (claims.aud !== audience) return 'it is for somebody else';
  if (claims.exp < Date.now() / 1000) return 'it has ended';
  if (shown.has(claims.jti)) return 'it was shown before';
  shown.add(claims.jti);
  return claims;
}

/** Teaches the provider the grant. */
export function register(provider) {
  async function handler(ctx) {
    const { params, client } = ctx.oidc;
    const claims = params.subject_token_type === jwt ? verified(params.subject_token ?? '', provider.issuer) : 'it is no JWT';
    if (typeof claims === 'string') {
      ctx.status = 400;
      ctx.body = { error: 'invalid_grant', error_description: claims };
      return;
    }
    const token = new provider.AccessToken({ accountId: claims.sub, client, gty: 'token_exchange', scope: params.scope });
    ctx.body = {
      access_token: await token.save(),
      issued_token_type: access,
      token_type: 'Bearer',
      expires_in: token.expiration,
    };
  }
  provider.registerGrantType(grant, handler, ['subject_token', 'subject_token_type', 'scope', 'audience', 'resource']);
}

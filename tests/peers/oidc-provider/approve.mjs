// The same person as chromium/approve.mjs, without a browser: follows the
// redirects and submits the forms of oidc-provider's pages by plain HTTP. For
// tests that are not about the browser: 0.3 s instead of 3.
//
// usage: approve.mjs [--deny] [--user NAME] [--code USER_CODE] URL
//
// Prints one line of JSON {final, status, title, text, steps}; exit status 0 if
// the last page was a success of HTTP.
import http from 'node:http';
import { parseArgs } from 'node:util';

const { values: opt, positionals: [url] } = parseArgs({
  allowPositionals: true,
  options: {
    deny: { type: 'boolean', default: false },
    user: { type: 'string', default: 'alice' },
    code: { type: 'string' },
  },
});
if (!url) {
  console.error('usage: approve.mjs [--deny] [--user NAME] [--code USER_CODE] URL');
  process.exit(2);
}

const jar = new Map(); // by name: one flow never needs two of the same
const steps = [];

// Not fetch, which calls itself a script of another page (Sec-Fetch-Mode: cors).
async function request(at, form) {
  const body = form && new URLSearchParams(form).toString();
  const { response, html } = await new Promise((resolve, reject) => {
    const sent = http.request(at, {
      method: form ? 'POST' : 'GET',
      headers: {
        cookie: [...jar].map(([k, v]) => `${k}=${v}`).join('; '),
        accept: 'text/html',
        'sec-fetch-mode': 'navigate',
        'sec-fetch-dest': 'document',
        ...(form && { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) }),
      },
      signal: AbortSignal.timeout(20_000),
    }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve({ response, html: Buffer.concat(parts).toString() }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
  for (const line of response.headers['set-cookie'] ?? []) {
    const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
    if (value) jar.set(name, value);
    else jar.delete(name);
  }
  const { statusCode: status, headers: { location: to } } = response;
  if (to && status >= 300 && status < 400) return request(new URL(to, at).href);
  return { at, status, html };
}

const attribute = (tag, name) => tag.match(new RegExp(`\\b${name}="([^"]*)"`))?.[1]?.replaceAll('&amp;', '&');

// The next request that a person would cause on this page, or nothing.
function next({ at, html }) {
  const form = html.match(/<form[^>]*>/i)?.[0];
  if (!form || steps.at(-1) === 'deny') return undefined;
  const inputs = [...html.matchAll(/<input[^>]*>/gi)].map(([tag]) => tag);
  const fields = Object.fromEntries(inputs.map((tag) => [attribute(tag, 'name'), attribute(tag, 'value') ?? '']));
  delete fields.undefined;
  const action = new URL(attribute(form, 'action') ?? '', at).href;
  if ('login' in fields) {
    steps.push('login');
    return [action, { ...fields, login: opt.user, password: 'any password' }];
  }
  if (fields.prompt === 'consent') {
    steps.push(opt.deny ? 'deny' : 'consent');
    return opt.deny ? [new URL(html.match(/href="([^"]*\/abort)"/)[1], at).href] : [action, fields];
  }
  if (/name="abort"/.test(html)) {
    steps.push(opt.deny ? 'deny' : 'confirm');
    return [action, opt.deny ? { ...fields, abort: 'yes' } : fields];
  }
  if ('user_code' in fields) {
    if (fields.user_code) return [action, fields]; // a form that submits itself
    if (!opt.code || steps.includes('code')) throw new Error('the page asks for a user code');
    steps.push('code');
    return [action, { ...fields, user_code: opt.code }];
  }
  return undefined;
}

try {
  let page = await request(url);
  for (let hop = next(page), n = 0; hop && n < 10; hop = next(page), n += 1) page = await request(...hop);
  const text = (page.html.match(/<body[^>]*>([\s\S]*)/i)?.[1] ?? page.html)
    .replace(/<(script|style|title)[\s\S]*?<\/\1>/gi, '').replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim();
  const title = page.html.match(/<title>([^<]*)/i)?.[1] ?? '';
  console.log(JSON.stringify({ final: page.at, status: page.status, title, text, steps }));
  process.exit(page.status < 400 ? 0 : 1);
} catch (error) {
  console.log(JSON.stringify({ error: String(error.cause?.message ?? error.message), steps }));
  process.exit(1);
}

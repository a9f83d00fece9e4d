// A person at a browser: opens URL in headless Chromium, types a user name and a
// password into the login page of oidc-provider, consents, and stays until the
// last page (the loopback page of the program under test, or the server's page
// after a device login) has rendered.
//
// usage: approve.mjs [--deny] [--user NAME] [--code USER_CODE] URL [SCREENSHOT.png]
//
// Prints one line of JSON {final, status, title, text, steps}; exit status 0 if
// the last page was a success of HTTP. Never runs longer than 60 seconds.
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { load } from '../peers.mjs';

const { values: opt, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    deny: { type: 'boolean', default: false }, // cancel where the server asks for consent
    user: { type: 'string', default: 'alice' },
    code: { type: 'string' }, // for a verification page that asks for it
  },
});
const [url, screenshot] = positionals;
if (!url) {
  console.error('usage: approve.mjs [--deny] [--user NAME] [--code USER_CODE] URL [SCREENSHOT.png]');
  process.exit(2);
}

const steps = [];
let browser;
let page;
const fail = async (error) => {
  const final = page?.url();
  await Promise.race([browser?.close(), new Promise((r) => setTimeout(r, 2000))]).catch(() => {});
  console.log(JSON.stringify({ error: String(error.message ?? error).split('\n')[0], final, steps }));
  process.exit(1);
};
setTimeout(() => fail('60 seconds are over'), 60_000).unref();

try {
  const { chromium } = await load('playwright-core/index.mjs');
  browser = await chromium.launch({
    executablePath: execFileSync('sh', ['-c', 'command -v chromium']).toString().trim(),
    chromiumSandbox: process.getuid() !== 0, // it refuses to work for root
    args: [
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
      // nothing but loopback: the dev pages would like a font from elsewhere
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE ::1',
    ],
  });
  page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  let status = 0;
  page.on('response', (r) => {
    if (r.frame() === page.mainFrame() && r.request().isNavigationRequest()) status = r.status();
  });

  // A click that leads to another document: the mark is gone once that one is there.
  const leave = async (name, button) => {
    steps.push(name);
    await page.evaluate(() => { window.left = true; });
    await button.click({ noWaitAfter: true });
    await page.waitForFunction(() => !window.left);
  };

  await page.goto(url);
  for (;;) {
    await page.waitForLoadState('load');
    if (steps.at(-1) === 'deny') break;
    // One look at the page, which may be on its way to the next one.
    const kind = await page.evaluate(() => {
      const has = (selector) => document.querySelector(selector) !== null;
      if (has('input[name=login]')) return 'login';
      if (has('input[name=prompt][value=consent]')) return 'consent';
      if (has('button[name=abort]')) return 'confirm';
      if (has('input[name=user_code][type=text]')) return 'code';
      if (has('form input[name=user_code]')) return 'moving'; // it submits itself
      return 'last';
    }).catch((error) => {
      if (/context was destroyed/i.test(error.message)) return 'moving';
      throw error;
    });
    const submit = page.locator('[type=submit]').first();
    if (kind === 'last') break;
    if (kind === 'moving') {
      await page.waitForTimeout(50);
    } else if (kind === 'login') {
      await page.fill('input[name=login]', opt.user);
      await page.fill('input[name=password]', 'any password');
      await leave('login', submit);
    } else if (kind === 'code') {
      if (!opt.code || steps.includes('code')) throw new Error('the page asks for a user code');
      await page.fill('input[name=user_code]', opt.code);
      await leave('code', submit);
    } else if (opt.deny) {
      await leave('deny', page.locator(kind === 'consent' ? 'a[href$="/abort"]' : 'button[name=abort]'));
    } else {
      await leave(kind, submit); // consent, confirm
    }
  }
  if (page.url().startsWith('chrome-error:')) throw new Error('the last page did not load');
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
  const answer = {
    final: page.url(),
    status,
    title: await page.title(),
    text: (await page.innerText('body')).trim(),
    steps,
  };
  await browser.close();
  console.log(JSON.stringify(answer));
  process.exit(status < 400 ? 0 : 1);
} catch (error) {
  await fail(error);
}

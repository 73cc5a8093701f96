// Runs *.spec.js in this folder as Jest would: describe, test, it, hooks and the common matchers.
//
// Place in the flow: `projects.py` sends this source along with a main program that calls `main`;
// node loads it as a loader too. As a loader it finds './name' without its ending and takes files
// that import or export for modules; all others stay CommonJS. A line of its own says how each test
// ended.
//
// Choice: no Jest of the distribution, which costs 2 s of CPU a run instead of 0.1 s. What it does
// not do: mocks, snapshots, fake timers, `each`, asymmetric matchers, a fresh context for each file.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isPromise } from 'node:util/types';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

export async function resolve(specifier, context, next) {
  const isLocal = /^\.{1,2}\//.test(specifier) && !/\.(m?js|cjs|json)$/.test(specifier);
  return next(isLocal ? `${specifier}.js` : specifier, context);
}

export async function load(url, context, next) {
  if (url.startsWith('file:') && url.endsWith('.js')) {
    const source = readFileSync(fileURLToPath(url), 'utf8');
    if (/^\s*(import\b(?!\s*\()|export\b)/m.test(source)) {
      return { format: 'module', source, shortCircuit: true };
    }
  }
  return next(url, context);
}

// Jest's 5 s of wall time would let a busy machine change a verdict.
const TIMEOUT_MS = 60_000;
const write = process.stdout.write.bind(process.stdout);
const later = setTimeout;
const root = { name: '', tests: [], beforeEach: [], afterEach: [], beforeAll: [], afterAll: [] };
let current = root;

function describe(name, body) {
  const outer = current;
  current = { name, tests: [], beforeEach: [], afterEach: [], beforeAll: [], afterAll: [] };
  outer.tests.push(current);
  body();
  current = outer;
}

function test(name, body) {
  current.tests.push({ name, body });
}

// Equal as Jest's toEqual has it: neither classes nor properties that are undefined count.
function equals(a, b, seen = new Map()) {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  const kind = Object.prototype.toString.call(a);
  if (kind !== Object.prototype.toString.call(b)) return false;
  if (a instanceof Error) return b instanceof Error && a.message === b.message;
  if (['[object Number]', '[object String]', '[object Boolean]'].includes(kind)) {
    return Object.is(a.valueOf(), b.valueOf());
  }
  if (kind === '[object Date]') return Object.is(a.getTime(), b.getTime());
  if (kind === '[object RegExp]') return String(a) === String(b);
  if (seen.get(a) === b) return true;
  seen.set(a, b);
  if (a instanceof Map || a instanceof Set) {
    if (!(b instanceof a.constructor) || a.size !== b.size) return false;
    const rest = [...b];
    return [...a].every((item) => {
      const place = rest.findIndex((other) => equals(item, other, seen));
      if (place >= 0) rest.splice(place, 1);
      return place >= 0;
    });
  }
  if (Array.isArray(a) && a.length !== b.length) return false;
  const keys = new Set([...Reflect.ownKeys(a), ...Reflect.ownKeys(b)]);
  for (const key of keys) {
    const [of_a, of_b] = [a, b].map((one) => Object.getOwnPropertyDescriptor(one, key));
    if (!of_a?.enumerable && !of_b?.enumerable) continue;
    if (!equals(a[key], b[key], seen)) return false;
  }
  if (!Array.isArray(a) && a[Symbol.iterator] && b[Symbol.iterator] && !ArrayBuffer.isView(a)) {
    return equals([...a], [...b], seen);
  }
  return true;
}

function throwsAs(body, expected) {
  let thrown;
  try {
    body();
    return [false, 'nothing was thrown'];
  } catch (error) {
    thrown = error;
  }
  const message = thrown?.message ?? String(thrown);
  let isSo = true;
  if (typeof expected === 'string') isSo = message.includes(expected);
  else if (expected instanceof RegExp) isSo = expected.test(message);
  else if (typeof expected === 'function') isSo = thrown instanceof expected;
  else if (expected !== undefined) isSo = message === expected.message;
  return [isSo, inspect(thrown)];
}

// Name -> (received, expected...) -> [whether it is so, what was received if not `received`].
const MATCHERS = {
  toBe: (a, b) => [Object.is(a, b)],
  toEqual: (a, b) => [equals(a, b)],
  toStrictEqual: (a, b) => [equals(a, b) && a?.constructor === b?.constructor],
  toBeCloseTo: (a, b, digits = 2) => [a === b || Math.abs(a - b) < 10 ** -digits / 2],
  toBeDefined: (a) => [a !== undefined],
  toBeUndefined: (a) => [a === undefined],
  toBeNull: (a) => [a === null],
  toBeNaN: (a) => [Number.isNaN(a)],
  toBeTruthy: (a) => [Boolean(a)],
  toBeFalsy: (a) => [!a],
  toBeInstanceOf: (a, b) => [a instanceof b],
  toBeGreaterThan: (a, b) => [a > b],
  toBeGreaterThanOrEqual: (a, b) => [a >= b],
  toBeLessThan: (a, b) => [a < b],
  toBeLessThanOrEqual: (a, b) => [a <= b],
  toContain: (a, b) => [typeof a === 'string' ? a.includes(b) : [...a].includes(b)],
  toContainEqual: (a, b) => [[...a].some((one) => equals(one, b))],
  toHaveLength: (a, b) => [a.length === b],
  toMatch: (a, b) => [typeof b === 'string' ? a.includes(b) : b.test(a)],
  toThrow: throwsAs,
  toThrowError: throwsAs,
};

function check(matcher, isNegated, received, expected) {
  const [isSo, got] = MATCHERS[matcher](received, ...expected);
  if (isSo !== isNegated) return;
  const call = `expect(received)${isNegated ? '.not' : ''}.${matcher}(expected)`;
  const wanted = expected.map((one) => inspect(one, { depth: 5 })).join(', ');
  throw new Error(
    `${call}\n\n    Expected: ${isNegated ? 'not ' : ''}${wanted}\n` +
      `    Received: ${got ?? inspect(received, { depth: 5 })}`,
  );
}

async function settle(promise, isRejected) {
  if (!isPromise(promise) && typeof promise?.then !== 'function') {
    throw new Error(`received value must be a promise, not ${inspect(promise)}`);
  }
  let value;
  try {
    value = await promise;
  } catch (error) {
    if (!isRejected) throw new Error(`promise was rejected: ${inspect(error)}`);
    return error;
  }
  if (isRejected) throw new Error(`promise was resolved: ${inspect(value)}`);
  return value;
}

function expect(received) {
  const build = (isNegated, call) =>
    Object.fromEntries(
      Object.keys(MATCHERS).map((name) => [name, (...args) => call(name, isNegated, args)]),
    );
  const now = (name, isNegated, args) => check(name, isNegated, received, args);
  const after = (isRejected) => async (name, isNegated, args) => {
    const value = await settle(received, isRejected);
    // What was rejected counts as thrown.
    const isThrown = isRejected && name.startsWith('toThrow');
    const subject = isThrown ? () => { throw value; } : value;
    check(name, isNegated, subject, args);
  };
  const both = (call) => ({ ...build(false, call), not: build(true, call) });
  return { ...both(now), resolves: both(after(false)), rejects: both(after(true)) };
}

async function call(body) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = later(() => reject(new Error(`exceeded timeout of ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
  });
  const run = async () =>
    body.length
      ? new Promise((done, fail) => body((error) => (error ? fail(error) : done())))
      : body();
  try {
    await Promise.race([run(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

async function runGroup(group, before, after, path) {
  let isPassed = true;
  before = [...before, ...group.beforeEach];
  after = [...group.afterEach, ...after];
  for (const hook of group.beforeAll) await call(hook);
  for (const one of group.tests) {
    if (one.tests) {
      isPassed = (await runGroup(one, before, after, [...path, one.name])) && isPassed;
      continue;
    }
    let outcome = 'PASS';
    try {
      for (const hook of before) await call(hook);
      await call(one.body);
      for (const hook of after) await call(hook);
    } catch (error) {
      outcome = 'FAIL';
      write(`\n  ● ${[...path, one.name].join(' › ')}\n\n    ${error?.stack ?? inspect(error)}\n`);
    }
    isPassed = isPassed && outcome === 'PASS';
    write(`\n--- ${outcome}: ${one.name}\n`);
  }
  for (const hook of group.afterAll) await call(hook);
  return isPassed;
}

export async function main() {
  const skip = () => {};
  const here = process.cwd();
  Object.assign(globalThis, {
    ...{ describe: Object.assign(describe, { skip }), xdescribe: skip },
    ...{ test: Object.assign(test, { skip }), it: test, xtest: skip, xit: skip, expect },
    beforeEach: (body) => current.beforeEach.push(body),
    afterEach: (body) => current.afterEach.push(body),
    beforeAll: (body) => current.beforeAll.push(body),
    afterAll: (body) => current.afterAll.push(body),
    // Jest compiles modules to CommonJS, where these are at hand.
    ...{ require: createRequire(`${here}/`), __dirname: here },
  });
  for (const name of readdirSync(here).filter((name) => name.endsWith('.spec.js'))) {
    await import(pathToFileURL(`${here}/${name}`));
  }
  const isPassed = await runGroup(root, [], [], []);
  process.exit(isPassed ? 0 : 1);
}

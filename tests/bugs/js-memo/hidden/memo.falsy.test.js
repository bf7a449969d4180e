import test from "node:test";
import assert from "node:assert/strict";
import { memo } from "./memo.js";

for (const result of [0, null, undefined, "", false, NaN]) {
  test(`remembers ${String(result)}`, () => {
    let calls = 0;
    const f = memo(() => {
      calls += 1;
      return result;
    });
    assert.ok(Object.is(f("x"), result));
    assert.ok(Object.is(f("x"), result));
    assert.equal(calls, 1);
  });
}

test("the argument undefined", () => {
  let calls = 0;
  const f = memo(() => (calls += 1));
  f(undefined);
  f(undefined);
  assert.equal(calls, 1);
});

import test from "node:test";
import assert from "node:assert/strict";
import { memo } from "./memo.js";

test("called once for each argument", () => {
  let calls = 0;
  const double = memo((number) => {
    calls += 1;
    return number * 2;
  });
  assert.deepEqual([double(2), double(2), double(3)], [4, 4, 6]);
  assert.equal(calls, 2);
  double.clear();
  double(2);
  assert.equal(calls, 3);
});

test("the limit", () => {
  const same = memo((value) => value, { limit: 2 });
  ["a", "b", "c"].forEach(same);
  assert.equal(same.size, 2);
});

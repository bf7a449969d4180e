import test from "node:test";
import assert from "node:assert/strict";
import { around, page, pageCount } from "../src/paginate.js";

test("a rest makes a page of its own", () => {
  assert.equal(pageCount(21, 10), 3);
  assert.deepEqual(page([1, 2, 3], 2, 2), { number: 2, of: 2, items: [3], hasNext: false, hasPrevious: true });
});

test("no empty page at the end", () => {
  assert.equal(pageCount(20, 10), 2);
});

test("numbers around", () => {
  assert.deepEqual(around(1, 9), [1, 2, 3]);
});

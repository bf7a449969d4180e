import test from "node:test";
import assert from "node:assert/strict";
import { page, pageCount } from "../src/paginate.js";

test("full pages", () => {
  for (const pages of [1, 2, 7]) {
    assert.equal(pageCount(pages * 5, 5), pages);
  }
});

test("an empty list has one page", () => {
  assert.equal(pageCount(0, 10), 1);
  assert.deepEqual(page([], 4, 10).items, []);
});

test("one more item makes one more page", () => {
  assert.equal(pageCount(11, 10), 2);
  assert.equal(page([1, 2, 3, 4], 9, 2).items.length, 2);
});

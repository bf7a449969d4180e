import test from "node:test";
import assert from "node:assert/strict";
import { median, percentile } from "../stats.js";

test("numbers of different lengths", () => {
  assert.equal(median([5, 100, 20]), 20);
  assert.equal(median([10, 9, 8, 1000]), 9.5);
  assert.equal(percentile([1, 2, 10, 20, 3], 90), 20);
});

test("negative numbers", () => assert.equal(median([-10, -9, 3]), -9));

test("the list stays as it was", () => {
  const numbers = [3, 20, 1];
  median(numbers);
  assert.deepEqual(numbers, [3, 20, 1]);
});

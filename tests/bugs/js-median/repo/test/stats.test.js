import test from "node:test";
import assert from "node:assert/strict";
import { mean, median, percentile } from "../stats.js";

test("mean", () => assert.equal(mean([1, 2, 6]), 3));

test("median", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test("percentile", () => assert.equal(percentile([1, 2, 3, 4], 50), 2));

test("nothing", () => assert.throws(() => median([]), RangeError));

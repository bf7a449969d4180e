import test from "node:test";
import assert from "node:assert/strict";
import { charges } from "./charges.js";
import { addMonths } from "./dates/months.js";

test("months that are too short", () => {
  assert.equal(addMonths("2023-01-31", 1), "2023-02-28");
  assert.equal(addMonths("2024-01-31", 1), "2024-02-29");
  assert.equal(addMonths("2023-03-31", -1), "2023-02-28");
  assert.equal(addMonths("2023-08-31", 13), "2024-09-30");
});

test("the first day decides", () => {
  assert.deepEqual(charges("2023-01-31", 4), ["2023-01-31", "2023-02-28", "2023-03-31", "2023-04-30"]);
});

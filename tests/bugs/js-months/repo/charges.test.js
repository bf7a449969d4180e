import test from "node:test";
import assert from "node:assert/strict";
import { charges } from "./charges.js";
import { addMonths, monthsBetween } from "./dates/months.js";

test("each month", () => assert.deepEqual(charges("2023-11-15", 3), ["2023-11-15", "2023-12-15", "2024-01-15"]));

test("months back", () => assert.equal(addMonths("2023-03-10", -3), "2022-12-10"));

test("between", () => assert.equal(monthsBetween("2023-01-20", "2023-03-19"), 1));

import test from "node:test";
import assert from "node:assert/strict";
import { compare, newest } from "./versions.js";

test("numbers, not texts", () => {
  assert.ok(compare("10.0.0", "9.9.9") > 0);
  assert.ok(compare("1.0.2", "1.0.11") < 0);
  assert.equal(compare("1.01.0", "1.1.0"), 0);
});

test("tags", () => {
  assert.equal(newest(["1.10.0-beta", "1.9.0", "1.10.0"]), "1.10.0");
  assert.ok(compare("1.0.0-alpha", "1.0.0-beta") < 0);
});

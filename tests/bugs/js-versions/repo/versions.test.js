import test from "node:test";
import assert from "node:assert/strict";
import { compare, newest, parse } from "./versions.js";

test("compare", () => {
  assert.ok(compare("1.2.3", "1.2.4") < 0);
  assert.ok(compare("2.0.0", "2.0.0-beta") > 0);
  assert.equal(compare("v1.0.0", "1.0.0"), 0);
});

test("two digits", () => {
  assert.equal(newest(["1.9.0", "1.10.0"]), "1.10.0");
});

test("not a version", () => assert.throws(() => parse("1.2"), SyntaxError));

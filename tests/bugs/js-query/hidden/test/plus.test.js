import test from "node:test";
import assert from "node:assert/strict";
import { parse, stringify } from "../lib/query.js";
import { changed } from "../lib/link.js";

test("plus is a space", () => {
  assert.deepEqual(parse("q=red+shoes+now"), { q: "red shoes now" });
  assert.deepEqual(parse("first+name=Ada"), { "first name": "Ada" });
});

test("an encoded plus is a plus", () => {
  assert.deepEqual(parse("q=a%2Bb"), { q: "a+b" });
  assert.deepEqual(parse(stringify({ q: "1+1 = 2" })), { q: "1+1 = 2" });
});

test("links", () => assert.equal(changed("/s?q=red+shoes", {}), "/s?q=red%20shoes"));

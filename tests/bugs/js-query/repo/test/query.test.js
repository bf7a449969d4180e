import test from "node:test";
import assert from "node:assert/strict";
import { parse, stringify } from "../lib/query.js";
import { changed } from "../lib/link.js";

test("parse", () => {
  assert.deepEqual(parse("?a=1&b=x%20y&a=2&c"), { a: ["1", "2"], b: "x y", c: "" });
  assert.deepEqual(parse("bad=%E0%A4"), { bad: "%E0%A4" });
});

test("stringify", () => assert.equal(stringify({ a: [1, 2], b: "x y" }), "a=1&a=2&b=x%20y"));

test("changed", () => assert.equal(changed("/list?page=2&q=a", { page: null, q: "b" }), "/list?q=b"));

import test from "node:test";
import assert from "node:assert/strict";
import { Emitter } from "./emitter.js";

test("listeners get the values", () => {
  const emitter = new Emitter();
  const seen = [];
  emitter.on("a", (...values) => seen.push(values));
  emitter.emit("a", 1, 2);
  assert.deepEqual(seen, [[1, 2]]);
  assert.equal(emitter.emit("b"), 0);
});

test("once", () => {
  const emitter = new Emitter();
  let calls = 0;
  emitter.once("a", () => (calls += 1));
  emitter.emit("a");
  emitter.emit("a");
  assert.equal(calls, 1);
});

test("taking off", () => {
  const emitter = new Emitter();
  const off = emitter.on("a", () => assert.fail());
  off();
  assert.equal(emitter.count("a"), 0);
  emitter.emit("a");
});

import test from "node:test";
import assert from "node:assert/strict";
import { Emitter } from "./emitter.js";

test("nobody is skipped", () => {
  const emitter = new Emitter();
  const seen = [];
  emitter.once("a", () => seen.push("first"));
  emitter.once("a", () => seen.push("second"));
  emitter.on("a", () => seen.push("third"));
  assert.equal(emitter.emit("a"), 3);
  assert.deepEqual(seen, ["first", "second", "third"]);
  emitter.emit("a");
  assert.deepEqual(seen, ["first", "second", "third", "third"]);
});

test("a listener that takes itself off", () => {
  const emitter = new Emitter();
  const seen = [];
  const off = emitter.on("a", () => {
    seen.push("one");
    off();
  });
  emitter.on("a", () => seen.push("two"));
  emitter.emit("a");
  assert.deepEqual(seen, ["one", "two"]);
  assert.equal(emitter.count("a"), 1);
});

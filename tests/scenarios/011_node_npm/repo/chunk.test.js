const test = require('node:test');
const assert = require('node:assert');
const { chunk } = require('./chunk.js');

test('keeps the rest', () => assert.deepStrictEqual(chunk([1, 2, 3], 2), [[1, 2], [3]]));

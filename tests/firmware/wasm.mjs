// Runs a program that was compiled for wasm32: `node wasm.mjs FILE.wasm`.
import { readFileSync } from "node:fs";

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), {
    board: { print: (start, length) => process.stdout.write(Buffer.from(instance.exports.memory.buffer, start, length)) },
});
process.exitCode = instance.exports.main();

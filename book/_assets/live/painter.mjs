/* The worker behind live figures: unpacks the decoder's weights, loads it into onnxruntime-web, and paints codes. */
import * as ort from "./ort.wasm.min.mjs";

const base = new URL(".", import.meta.url), decoder = new URL(import.meta.url).searchParams.get("decoder");

async function bytes(name) {
  const response = await fetch(new URL(name, base));
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  const found = new Uint8Array(await response.arrayBuffer());
  if (found[0] !== 0x1f || found[1] !== 0x8b) return found; // not packed, or a server unpacked it on the way
  const stream = new Blob([found]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* The same rule as diga_lib.latent.onnx_export.unpacked. */
function unpacked(packed, arrays) {
  const all = new Float32Array(arrays.reduce((sum, { rows, columns }) => sum + rows * columns, 0));
  let k = 0;
  for (const { rows, columns, run, at } of arrays) {
    const size = rows * columns, steps = new Float32Array(packed.buffer, packed.byteOffset + at, rows);
    if (run) {
      const low = packed.subarray(at + 4 * rows, at + 4 * rows + size), high = packed.subarray(at + 4 * rows + size);
      for (let i = 0; i < size; ) {
        const step = steps[(i / columns) | 0];
        for (let whole = 0, end = i + run; i < end; i++) {
          const folded = low[i] | (high[i] << 8);
          whole += (folded >>> 1) ^ -(folded & 1);
          all[k++] = whole * step;
        }
      }
    } else {
      const whole = new Int8Array(packed.buffer, packed.byteOffset + at + 4 * rows, size);
      for (let row = 0, i = 0; row < rows; row++)
        for (const step = steps[row], end = i + columns; i < end; i++) all[k++] = whole[i] * step;
    }
  }
  return new Uint8Array(all.buffer);
}

async function load() {
  if (typeof DecompressionStream !== "function") throw new Error("no DecompressionStream");
  const recipe = fetch(new URL(`${decoder}/decoder.json`, base)).then((response) => response.json());
  const weights = Promise.all([bytes(`${decoder}/decoder.bin.gz`), recipe]).then(([packed, { arrays }]) => unpacked(packed, arrays));
  const [wasm, model, data] = await Promise.all([bytes("ort-wasm-simd-threaded.wasm.gz"), bytes(`${decoder}/decoder.onnx`), weights]);
  ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send
  ort.env.wasm.wasmPaths = base.href;
  ort.env.wasm.wasmBinary = wasm.buffer;
  const externalData = [{ path: "decoder.bin", data }];
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], externalData });
  return { session, identity: (await recipe).decoder };
}

function rgba({ data, dims: [, , height, width] }) {
  const area = height * width, pixels = new Uint8ClampedArray(4 * area).fill(255); // clamped, and rounded to the nearest
  for (let i = 0; i < area; i++)
    for (let channel = 0; channel < 3; channel++) pixels[4 * i + channel] = 255 * data[channel * area + i];
  return { pixels, width, height };
}

const loaded = load();
let last = loaded.then(({ identity }) => postMessage({ identity }), (error) => postMessage({ error: String(error) }));

async function paint({ code, shape }) {
  try {
    const { session } = await loaded;
    const { images } = await session.run({ codes: new ort.Tensor("float32", code, shape) });
    const picture = rgba(images);
    postMessage({ picture }, [picture.pixels.buffer]);
  } catch (error) {
    postMessage({ error: String(error) });
  }
}
addEventListener("message", ({ data }) => { last = last.then(() => paint(data)); }); // one after the other, answered in order

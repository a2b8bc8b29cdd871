/* Live figures: sliders whose faces the real decoder paints inside the page, without a kernel or a network.

   The decoder (ONNX) and its runtime (WebAssembly) are loaded when the first figure comes near the screen. Where that
   fails, the sliders switch between frames that were painted when the page was made. */
(() => {
  "use strict";
  const base = new URL(".", document.currentScript.src);
  const painters = {}; // one for each decoder, in a worker, for all figures of a page

  function load(decoder) {
    painters[decoder] ??= (async () => {
      if (typeof WebAssembly !== "object") throw new Error("no WebAssembly");
      const worker = new Worker(new URL(`painter.mjs?decoder=${decoder}`, base), { type: "module" });
      const waiting = []; // the worker answers in order
      const answer = () => new Promise((resolve, reject) => waiting.push({ resolve, reject }));
      worker.onmessage = ({ data }) => {
        const { resolve, reject } = waiting.shift();
        if (data.error) reject(new Error(data.error));
        else resolve(data);
      };
      worker.onerror = ({ message }) => waiting.splice(0).forEach(({ reject }) => reject(new Error(message ?? "no worker")));
      const { identity } = await answer();
      const paint = (code, shape) => {
        const picture = answer();
        worker.postMessage({ code, shape });
        return picture;
      };
      return { paint, identity };
    })();
    return painters[decoder];
  }

  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

  class Figure {
    constructor(root) {
      this.root = root;
      this.spec = JSON.parse(root.querySelector(".live-data").textContent);
      [this.count, this.levels, this.width] = this.spec.shape;
      this.size = this.levels * this.width;
      this.faces = floats(this.spec.faces);
      this.vectors = floats(this.spec.vectors);
      if (this.spec.units)
        this.units = Object.fromEntries(Object.entries(this.spec.units).map(([key, text]) => [key, floats(text)]));
      if (this.spec.rest) this.rest = new Int8Array(Uint8Array.from(atob(this.spec.rest), (c) => c.charCodeAt(0)).buffer);
      this.code = this.faces.slice(0, this.size);
      this.face = 0;
      this.values = {};
      this.inputs = {};
      this.painted = 0;
      this.build();
      this.root.dataset.state = "waiting";
    }

    build() {
      const stage = this.root.querySelector(".live-stage");
      this.still = stage.querySelector("img");
      this.canvas = element("canvas", { width: 64, height: 64, role: "img", "aria-label": this.spec.alt, hidden: "" });
      stage.append(this.canvas);
      const panel = element("div", { class: "live-controls" });
      for (const control of this.spec.controls) panel.append(this.slider(control));
      const buttons = element("div", { class: "live-buttons" });
      const button = (text, act) => {
        const made = element("button", { type: "button" }, text);
        made.addEventListener("click", act);
        buttons.append(made);
        return made;
      };
      this.decoding = []; // of no use when only frames can be shown
      if (this.count > 1) this.decoding.push(button("Another face", () => this.choose((this.face + 1) % this.count)));
      if (this.spec.spread) {
        this.decoding.push(button("Random code", () => this.draw()));
        this.decoding.push(button("Your own code…", () => file.click()));
        const file = element("input", { type: "file", accept: ".json,application/json", hidden: "", tabindex: "-1",
          "aria-label": `A file with ${this.size} numbers as JSON` });
        file.addEventListener("change", async () => file.files[0] && this.take(await file.files[0].text()));
        buttons.append(file);
      }
      button("Reset", () => this.reset());
      this.message = element("p", { class: "live-message", role: "status" });
      panel.append(buttons, this.message);
      stage.after(panel);
      this.root.querySelector(".live-note").textContent = "Drag, type a number, or use the arrow keys.";
    }

    slider(control) {
      const id = `${this.spec.name}-${control.name}`;
      const range = element("input", { type: "range", id, min: control.low, max: control.high, step: control.step,
        "aria-label": control.label });
      const shown = control.places.length
        ? element("output", { for: id })
        : element("input", { type: "number", min: control.low, max: control.high, step: control.step,
            "aria-label": `${control.label}, as a number` });
      const set = (value, typed) => {
        value = Math.min(control.high, Math.max(control.low, value));
        this.values[control.name] = value;
        range.value = value;
        const words = control.places.length ? control.places[Math.round(value)] : String(Math.round(value * 1e4) / 1e4);
        if (control.places.length) shown.textContent = words;
        else if (!typed) shown.value = words;
        range.setAttribute("aria-valuetext", `${control.label}: ${words}`);
      };
      range.value = control.value;
      range.addEventListener("input", () => { set(Number(range.value)); this.changed(control.name); });
      shown.addEventListener("input", () => {
        if (shown.value !== "" && Number.isFinite(Number(shown.value))) {
          set(Number(shown.value), true);
          this.changed(control.name);
        }
      });
      shown.addEventListener("change", () => set(this.values[control.name]));
      set(control.value);
      this.inputs[control.name] = set;
      return element("div", { class: "live-control" }, element("label", { for: id }, control.label), range, shown);
    }

    /* The same rule as diga_lib.live.compose. */
    compose() {
      const code = this.code.slice();
      const add = (vector, amount) => {
        const from = vector * this.size;
        for (let i = 0; i < this.size; i++) code[i] += amount * this.vectors[from + i];
      };
      if (this.units) {
        const features = this.features(), from = this.face * this.size;
        for (let i = 0; i < this.size; i++)
          for (let k = 0; k < features.length; k++) code[i] += this.units.maps[(from + i) * features.length + k] * features[k];
      }
      for (const { name, move } of this.spec.controls) {
        const degree = this.values[name];
        if ("vector" in move) add(move.vector, degree * move.scale);
        else if ("coefficient" in move) {
          const c = this.values[move.coefficient];
          let square = 0;
          for (let i = 0; i < this.size; i++) {
            const p = this.vectors[move.strong * this.size + i] - c * this.vectors[move.weak * this.size + i];
            square += p * p;
          }
          const [strong, both, weak] = move.moments;
          const amount = (degree * Math.sqrt(Math.max(strong - 2 * c * both + c * c * weak, 0))) / square;
          add(move.strong, amount);
          add(move.weak, -c * amount);
        } else if ("turn" in move) {
          const k = Math.round(this.values[move.turn]);
          add(move.vectors[k], degree * move.scales[k]);
        }
      }
      return code;
    }

    /* The action units' intensities, straight and curved, as AUEditNet's label encoder has them. */
    features() {
      const { into, bias } = this.units, softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
      const y = this.spec.controls.filter(({ move }) => "unit" in move).map(({ name }) => this.values[name] / 5);
      const curved = [...bias].map((offset, row) => {
        const x = y.reduce((sum, value, k) => sum + into[row * y.length + k] * value, offset);
        return softplus(x) - softplus(offset);
      });
      return [...y, ...curved];
    }

    changed(name) {
      this.last = name;
      this.stale = true;
      if (this.root.dataset.state === "frames") this.frame();
      else if (this.paint) this.loop();
    }

    async loop() {
      if (this.busy) return;
      this.busy = true;
      while (this.stale) {
        this.stale = false;
        const begin = performance.now();
        const { picture } = await this.paint(this.compose(), [1, this.levels, this.width]);
        this.show(picture);
        this.root.dataset.milliseconds = (performance.now() - begin).toFixed(1);
      }
      this.busy = false;
    }

    show({ pixels, width, height }) {
      const area = width * height; // the painter's pixels are clamped, and so is their sum
      for (let k = 0, from = this.face * 3 * area; this.rest && !this.own && k < 3 * area; k++)
        pixels[4 * (k % area) + Math.floor(k / area)] += this.rest[from + k];
      if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
      this.canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
      this.canvas.hidden = false;
      this.still.hidden = true;
      const words = this.spec.controls.map((control) => {
        const value = this.values[control.name];
        return `${control.label}: ${control.places.length ? control.places[Math.round(value)] : value}`;
      });
      this.canvas.setAttribute("aria-label", `${this.spec.alt} ${words.join("; ")}.`);
      this.root.dataset.painted = ++this.painted;
    }

    /* Without the decoder: the frame of the control that moved last, the others at their start. */
    frame() {
      const control = this.spec.controls.find(({ name }) => name === this.last);
      const frames = this.spec.frames[control.name];
      for (const { name, value } of this.spec.controls) if (name !== control.name) this.inputs[name](value);
      const share = (this.values[control.name] - control.low) / (control.high - control.low);
      const k = Math.round(share * (frames.length - 1));
      this.still.src = `data:image/webp;base64,${frames[k]}`;
      this.root.dataset.frame = k;
      this.root.dataset.painted = ++this.painted;
    }

    choose(face) {
      this.face = face;
      this.own = false; // whether the code is of no photograph
      this.code = this.faces.slice(face * this.size, (face + 1) * this.size);
      this.changed(this.last);
    }

    draw() {
      const spread = floats(this.spec.spread);
      this.own = true;
      for (let i = 0; i < this.size; i++) this.code[i] = spread[i] + 0.8 * normal() * spread[this.size + i];
      this.changed(this.last);
    }

    take(text) {
      let numbers;
      try {
        numbers = JSON.parse(text).flat(Infinity).map(Number);
      } catch {
        numbers = [];
      }
      if (numbers.length !== this.size || !numbers.every(Number.isFinite)) {
        this.message.textContent = `A code is ${this.levels} × ${this.width} numbers, as JSON; this file has none.`;
        return;
      }
      this.message.textContent = "Your code.";
      this.own = true;
      this.code = Float32Array.from(numbers);
      this.changed(this.last);
    }

    reset() {
      for (const { name, value } of this.spec.controls) this.inputs[name](value);
      this.message.textContent = "";
      this.last = this.spec.controls[0].name;
      this.choose(0);
    }

    async start() {
      this.root.dataset.state = "loading";
      this.last = this.spec.controls[0].name;
      try {
        const { paint, identity } = await load(this.spec.decoder);
        if (identity !== this.spec.decoder) throw new Error("painted by another generator than the book's");
        this.paint = paint;
        this.stale = true;
        await this.loop();
        this.root.dataset.state = "live";
      } catch (error) {
        this.paint = undefined;
        for (const made of this.decoding) made.disabled = true;
        this.message.textContent = "The decoder does not run here: the sliders show stored pictures.";
        this.root.dataset.reason = String(error);
        this.root.dataset.state = "frames";
      }
    }
  }

  /* Sliders of ipywidgets say their place as an index: let them say their name and what the screen shows. */
  function name(slider) {
    const handle = slider.querySelector("[role=slider]"), readout = slider.querySelector(".widget-readout");
    if (!handle || !readout || handle.dataset.named) return;
    handle.dataset.named = "yes";
    const label = slider.querySelector(".widget-label")?.textContent ?? "";
    const say = () => {
      const words = `${label}: ${readout.textContent}`;
      if (handle.getAttribute("aria-valuetext") !== words) handle.setAttribute("aria-valuetext", words);
    };
    handle.setAttribute("aria-label", label);
    new MutationObserver(say).observe(readout, { childList: true, characterData: true, subtree: true });
    new MutationObserver(say).observe(handle, { attributeFilter: ["aria-valuetext"] });
    say();
  }

  function begin() {
    const named = () => document.querySelectorAll(".widget-hslider").forEach(name);
    if (document.querySelector("script[type='application/vnd.jupyter.widget-view+json']")) {
      new MutationObserver(named).observe(document.querySelector("main"), { childList: true, subtree: true });
      named();
    }
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries)
        if (isIntersecting) {
          seen.unobserve(target);
          target.live.start();
        }
    }, { rootMargin: "300px" });
    for (const root of document.querySelectorAll(".live-figure")) {
      root.live = new Figure(root);
      seen.observe(root);
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();

"use strict";
// The script of evofool's report: gallery, pictures drawn from genomes, an elite's page. All text of a run is set as
// text, never as HTML. No network.

const facts = JSON.parse(document.getElementById("facts").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children; strings become text.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const isolated = (text) => make("bdi", {}, String(text));

// ------------------------------------------------------------------------------------------------ numbers

// Confidence as people read it, never rounded up to 100 %.
const percent = (p) => p === null ? "not finite" : p >= 0.9999 ? ">= 99.99 %" : p > 0 && p < 0.0001 ? "< 0.01 %" : (Math.floor(p * 1e4) / 100).toFixed(2) + " %";
const short = (value) => value === null ? "–" : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);

// ------------------------------------------------------------------------------------------------ genomes

const stored = [];

function bytesOf(run) {
  stored[run] ??= Uint8Array.from(atob(byId(`genomes-${run}`).textContent), (c) => c.charCodeAt(0));
  return new DataView(stored[run].buffer);
}

// The genome at an offset, as evofool/report/data.py packed it: nodes in order, places 0 to 3 are x, y, d and the bias.
function genomeAt(run, offset) {
  const view = bytesOf(run);
  let at = offset;
  const u16 = () => { at += 2; return view.getUint16(at - 2, true); };
  const count = u16();
  const outputs = Array.from({ length: u16() });
  for (let i = 0; i < outputs.length; i++) outputs[i] = u16();
  const nodes = [];
  for (let i = 0; i < count; i++) {
    nodes.push({ code: view.getUint8(at), addends: new Array(view.getUint32(at + 1, true)) });
    at += 5;
  }
  for (const node of nodes) {
    for (let i = 0; i < node.addends.length; i++) {
      node.addends[i] = { from: u16(), weight: view.getFloat32(at, true) };
      at += 4;
    }
  }
  const needed = nodes.map((_, i) => outputs.includes(i + 4));
  for (let i = count - 1; i >= 0; i--) {
    if (needed[i]) for (const { from } of nodes[i].addends) if (from >= 4) needed[from - 4] = true;
  }
  return { nodes, outputs, needed };
}

// ------------------------------------------------------------------------------------------------ drawing
// The same operations in the same order as evofool/encoding/drawing/render.py, each rounded to float32.

const f = Math.fround;
const bits = new Int32Array(1);
const asFloat = new Float32Array(bits.buffer);

// encoding/drawing/portable.py
const PI32 = f(3.1415927410125732);
const SINE = [2.605780537123792e-06, -0.00019809602235909551, 0.00833306647837162, -0.16666659712791443].map(f);
const EXPONENTIAL = [0.001381461275741458, 0.008368710055947304, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552].map(f);
const ONE_OVER_TWO_PI = 0.15915494309189535, TWO_PI_HIGH = 6.283185303211212, TWO_PI_LOW = 3.968374318722162e-09;
const WHOLE_64 = 6755399441055744, WHOLE = 12582912, LARGEST_ANGLE = 268435456, LARGEST_EXPONENT = 87;
const ONE_OVER_LN2 = f(1.4426950216293335), LN2_HIGH = f(0.693145751953125), LN2_LOW = f(1.428606765330187e-06);

function portableSine(p) {
  const wide = Math.max(-LARGEST_ANGLE, Math.min(LARGEST_ANGLE, p));
  const n = (wide * ONE_OVER_TWO_PI + WHOLE_64) - WHOLE_64;
  let r = f((wide - n * TWO_PI_HIGH) - n * TWO_PI_LOW);
  r = Math.min(r, f(PI32 - r));
  r = Math.max(r, f(-PI32 - r));
  const square = f(r * r);
  let sum = SINE[0];
  for (let i = 1; i < 4; i++) sum = f(f(sum * square) + SINE[i]);
  return f(f(p - p) + f(r + f(r * f(square * sum))));
}

function portableExponential(x) {
  const n = f(f(f(x * ONE_OVER_LN2) + WHOLE) - WHOLE);
  const r = f(f(x - f(n * LN2_HIGH)) - f(n * LN2_LOW));
  let sum = EXPONENTIAL[0];
  for (let i = 1; i < 5; i++) sum = f(f(sum * r) + EXPONENTIAL[i]);
  bits[0] = (n + 127) << 23;
  return f(f(f(r + f(f(r * r) * sum)) + 1) * asFloat[0]);
}

const exponential = (x) => f(Math.exp(x));
const clamp = (x, low, high) => x < low ? low : x > high ? high : x; // NaN stays
const sigmoid = (exp, low, high) => (p) => f(f(2 * f(1 / f(exp(-clamp(p, low, high)) + 1))) - 1);
const linear = (p) => f(clamp(p, -3, 3) / 3);

const FUNCTIONS = {
  portable: {
    identity: null, sine: portableSine, linear,
    sigmoid: sigmoid(portableExponential, -LARGEST_EXPONENT, LARGEST_EXPONENT),
    gaussian: (p) => { const x = f(-f(p * p)); return x < -LARGEST_EXPONENT ? 0 : portableExponential(x); },
  },
  torch: {
    identity: null, sine: (p) => f(Math.sin(p)), linear,
    sigmoid: sigmoid(exponential, -88, 87),
    gaussian: (p) => exponential(f(-f(p * p))),
  },
};

// The four inputs at the pixels of some rows, as programs.coordinates has them.
function coordinates(encoding, width, height, top, rows) {
  const n = width * rows, inputs = [0, 1, 2, 3].map(() => new Float32Array(n));
  const place = (i, size) => size === 1 ? 0 : i === size - 1 ? 1 : i * (2 / (size - 1)) - 1;
  const raw = encoding.coordinates === "raw";
  for (let i = 0, row = top; row < top + rows; row++) {
    const y = place(row, height);
    for (let column = 0; column < width; column++, i++) {
      const x = place(column, width);
      inputs[0][i] = raw ? (x + 1) / 2 * (encoding.width - 1) : x;
      inputs[1][i] = raw ? (y + 1) / 2 * (encoding.height - 1) : y;
      inputs[2][i] = Math.sqrt(x * x + y * y);
      inputs[3][i] = 1;
    }
  }
  return inputs;
}

function evaluate(genome, encoding, inputs) {
  const values = [...inputs], n = inputs[0].length;
  genome.nodes.forEach((node, i) => {
    if (!genome.needed[i]) { values.push(null); return; }
    const out = new Float32Array(n);
    for (const { from, weight } of node.addends) {
      const source = values[from];
      for (let k = 0; k < n; k++) out[k] = out[k] + f(weight * source[k]);
    }
    const activation = FUNCTIONS[encoding.arithmetic][encoding.activations[node.code]];
    if (activation) for (let k = 0; k < n; k++) out[k] = activation(out[k]);
    values.push(out);
  });
  return genome.outputs.map((place) => values[place]);
}

function period6(k) { return f(k - f(Math.floor(f(k * f(1 / 6))) * 6)); }

// Three numbers in [0, 1] to three in 0 .. 255, by what the encoding's colour means.
const COLOURS = {
  rgb: (levels, values) => values.map(levels),
  hsv: (levels, [hue, saturation, value]) => {
    const sixths = f(hue * 6), depth = f(saturation * value);
    return [5, 3, 1].map((offset) => {
      const k = period6(f(sixths + offset));
      return levels(f(value - f(clamp(Math.min(k, f(4 - k)), 0, 1) * depth)));
    });
  },
  hls2015: (levels, values) => {
    const [h, l, s] = values.map(levels);
    const hue = f(h / 30), lightness = f(l / 255), saturation = f(s / 255);
    const high = lightness <= 0.5 ? f(lightness * f(1 + saturation)) : f(f(lightness + saturation) - f(lightness * saturation));
    const low = f(f(2 * lightness) - high);
    return [2, 0, 4].map((offset) => {
      const k = period6(f(offset + hue));
      return Math.floor(f(f(clamp(f(low + f(f(high - low) * clamp(Math.min(k, f(4 - k)), 0, 1))), 0, 1) * 255) + 0.5));
    });
  },
};

// Some rows of the picture of a genome as RGBA bytes.
function pixels(genome, encoding, width, height, top = 0, rows = height) {
  const outputs = evaluate(genome, encoding, coordinates(encoding, width, height, top, rows));
  const half = encoding.quantisation === "round" ? 0.5 : 0;
  const unit = (v) => {
    const shown = encoding.output === "absolute" ? Math.abs(v) : f(f(v + 1) * 0.5);
    return shown > 0 ? Math.min(shown, 1) : 0; // NaN is drawn as 0
  };
  const levels = (v) => Math.floor(f(f(v * 255) + half));
  const image = new Uint8ClampedArray(4 * width * rows);
  const convert = COLOURS[encoding.colour];
  for (let i = 0; i < width * rows; i++) {
    const values = outputs.map((out) => unit(out[i]));
    const colour = convert ? convert(levels, values) : Array(3).fill(levels(values[0]));
    image.set(colour, 4 * i);
    image[4 * i + 3] = 255;
  }
  return image;
}

// Draw into a canvas, some rows at a time so that the page stays awake; resolves when done, or when the canvas is used
// for something else.
async function paint(canvas, genome, encoding, width, height) {
  canvas.width = width;
  canvas.height = height;
  const ticket = canvas.ticket = {};
  const context = canvas.getContext("2d");
  const rows = Math.max(1, Math.floor((1 << 17) / width));
  for (let top = 0; top < height; top += rows) {
    if (top) await new Promise((done) => setTimeout(done));
    if (canvas.ticket !== ticket) return;
    const part = Math.min(rows, height - top);
    context.putImageData(new ImageData(pixels(genome, encoding, width, height, top, part), width, part), 0, top);
  }
  canvas.dataset.drawn = `${width}x${height}`;
}

// ------------------------------------------------------------------------------------------------ network

const SYMBOLS = { // in a square from -8 to 8
  identity: "M-6 5L6 -5",
  sine: "M-7 0C-4.5 -8 -2.5 -8 0 0S4.5 8 7 0",
  sigmoid: "M-7 5C1 5 -1 -5 7 -5",
  gaussian: "M-7 5C-2 5 -2.5 -6 0 -6S2 5 7 5",
  linear: "M-7 5H-4L4 -5H7",
};

function channelNames(encoding) {
  return { grey: ["grey"], hsv: ["hue", "saturation", "value"], rgb: ["red", "green", "blue"],
    hls2015: ["hue", "lightness", "saturation"] }[encoding.colour];
}

// The genome as a network in layers: inputs to the left, outputs to the right.
function networkOf(genome, encoding) {
  const total = genome.nodes.length + 4;
  const layer = new Array(total).fill(0);
  genome.nodes.forEach((node, i) => {
    layer[i + 4] = 1 + Math.max(0, ...node.addends.map(({ from }) => layer[from]));
  });
  const last = Math.max(1, ...genome.nodes.map((_, i) => layer[i + 4]));
  for (const place of genome.outputs) layer[place] = Math.max(layer[place], last);
  const rightmost = Math.max(...layer);
  for (const place of genome.outputs) layer[place] = rightmost;
  const layers = Array.from({ length: rightmost + 1 }, () => []);
  layer.forEach((l, place) => layers[l].push(place));
  layers[rightmost].sort((a, b) => genome.outputs.indexOf(a) - genome.outputs.indexOf(b));
  const from = genome.nodes.map((node) => node.addends.map((a) => a.from));
  const row = new Array(total).fill(0);
  const spread = () => layers.forEach((places) => places.forEach((place, i) => { row[place] = i - (places.length - 1) / 2; }));
  spread();
  for (let sweep = 0; sweep < 4; sweep++) { // each node to the middle of its sources
    for (const places of layers.slice(1)) {
      const middle = (place) => from[place - 4].length ? from[place - 4].reduce((sum, s) => sum + row[s], 0) / from[place - 4].length : 0;
      if (places !== layers[rightmost]) places.sort((a, b) => middle(a) - middle(b));
    }
    spread();
  }
  const most = Math.max(...layers.map((places) => places.length));
  const high = Math.max(160, most * 44 + 30), wide = 110 + rightmost * 92 + 110;
  const x = (place) => 60 + 92 * layer[place], y = (place) => high / 2 + 44 * row[place];
  const names = ["x", "y", "d", "bias"], outputs = channelNames(encoding);
  const called = (place) => place < 4 ? names[place] : genome.outputs.includes(place) ? outputs[genome.outputs.indexOf(place)] : `node ${place - 3}`;
  const edges = [], nodes = [];
  genome.nodes.forEach((node, i) => {
    for (const { from: source, weight } of node.addends) {
      const place = i + 4, idle = genome.needed[i] ? "" : " idle";
      const title = draw("title", {}, `${called(source)} to ${called(place)}: ${Number(weight.toPrecision(4))}`);
      const bend = (x(place) - x(source)) / 2;
      edges.push(draw("path", {
        class: `edge${weight < 0 ? " minus" : ""}${idle}`,
        d: `M${x(source) + 14} ${y(source)}C${x(source) + bend} ${y(source)} ${x(place) - bend} ${y(place)} ${x(place) - 14} ${y(place)}`,
        "stroke-width": (0.8 + 2.6 * Math.min(1, Math.abs(weight) / 10)).toFixed(2),
      }, title));
    }
  });
  for (let place = 0; place < total; place++) {
    const group = draw("g", { transform: `translate(${x(place)} ${y(place)})` });
    if (place < 4) {
      group.append(draw("rect", { class: "node", x: -14, y: -12, width: 28, height: 24, rx: 3 }), draw("text", { class: "middle", y: 4 }, names[place]));
    } else {
      const name = encoding.activations[genome.nodes[place - 4].code];
      if (!genome.needed[place - 4]) group.setAttribute("class", "idle");
      group.append(draw("title", {}, `${called(place)}: ${name}`), draw("circle", { class: "node", r: 14 }));
      group.append(SYMBOLS[name] ? draw("path", { class: "symbol", d: SYMBOLS[name] }) : draw("text", { class: "middle", y: 4 }, "own"));
      if (genome.outputs.includes(place)) group.append(draw("text", { x: 20, y: 4 }, called(place)));
    }
    nodes.push(group);
  }
  const label = `Network of ${genome.nodes.length + 4} nodes and ${edges.length} connections`;
  return draw("svg", { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, role: "img", "aria-label": label }, ...edges, ...nodes);
}

// ------------------------------------------------------------------------------------------------ gallery

const cards = [...byId("cards").children];
const entries = [];
facts.runs.forEach((run, r) => run.elites.forEach((elite, i) => entries.push({
  run: r, index: i, elite, card: cards[entries.length], id: `e${r}-${i}`, folded: elite.name.normalize("NFKC").toLowerCase(),
})));
let visible = entries;

const collator = new Intl.Collator(undefined, { numeric: true });
const ORDERS = {
  class: (a, b) => a.elite.class - b.elite.class || (a.elite.bin ?? 0) - (b.elite.bin ?? 0),
  name: (a, b) => collator.compare(a.elite.name, b.elite.name),
  "confidence-up": (a, b) => (a.elite.activation ?? a.elite.logOdds ?? -Infinity) - (b.elite.activation ?? b.elite.logOdds ?? -Infinity),
  "generation-up": (a, b) => a.elite.generation - b.elite.generation,
  "size-up": (a, b) => a.elite.nodes + a.elite.connections - b.elite.nodes - b.elite.connections,
};

function arrange() {
  const wanted = byId("search").value.normalize("NFKC").toLowerCase().trim(), threshold = Number(byId("threshold")?.value);
  const group = byId("group")?.value, run = byId("run")?.value, order = byId("sort").value;
  const compare = ORDERS[order] ?? ((a, b) => ORDERS[`${order}-up`](b, a));
  const sorted = [...entries].sort((a, b) => compare(a, b) || a.elite.class - b.elite.class || a.run - b.run);
  visible = sorted.filter(({ elite, folded, run: r }) =>
    (!wanted || folded.includes(wanted) || String(elite.class) === wanted) &&
    (!threshold || (threshold > 0 ? elite.confidence >= f(threshold) : elite.confidence < f(-threshold))) &&
    (!group || elite.group === group) && (!run || r === Number(run)));
  const shown = new Set(visible);
  for (const entry of entries) entry.card.hidden = !shown.has(entry);
  if (sorted.some((entry, i) => byId("cards").children[i] !== entry.card)) byId("cards").append(...sorted.map((entry) => entry.card));
  byId("shown").textContent = `${visible.length} of ${entries.length} elites`;
  rove(visible[0]);
}

// One card at a time is in the order of the Tab key; arrows go to the others.
let current = null;
function rove(entry) {
  current?.card.firstChild.setAttribute("tabindex", "-1");
  current = entry;
  entry?.card.firstChild.setAttribute("tabindex", "0");
}

function moved(key) {
  const i = visible.indexOf(current);
  const across = visible.filter((entry) => entry.card.offsetTop === visible[0].card.offsetTop).length || 1;
  return visible[{ ArrowRight: i + 1, ArrowLeft: i - 1, ArrowDown: i + across, ArrowUp: i - across, Home: 0, End: visible.length - 1 }[key]];
}

// ------------------------------------------------------------------------------------------------ an elite's page

const MOST_PIXELS = 2048;

// A picture of an individual: drawn from its genome, or the one that came with the page; null where there is neither.
function pictureOf(run, person, elite, size) {
  const { encoding, undrawn } = facts.runs[run];
  const width = size ?? encoding.width, height = size ? Math.round(size * encoding.height / encoding.width) : encoding.height;
  if (!undrawn && person.genome !== undefined) {
    const canvas = make("canvas", { role: "img" });
    canvas.done = paint(canvas, genomeAt(run, person.genome), encoding, width, height);
    canvas.classList.toggle("pixels", width < 100 && width === encoding.width);
    return canvas;
  }
  const source = elite !== undefined ? entries.find((e) => e.run === run && e.index === elite).card.querySelector("img").src : person.picture;
  return source ? make("img", { src: source, class: encoding.width < 100 ? "pixels" : "" }) : null;
}

function describe(picture, text) {
  picture.setAttribute(picture.localName === "img" ? "alt" : "aria-label", text);
  return picture;
}

function definitions(pairs) {
  const list = make("dl");
  for (const [name, ...value] of pairs) list.append(make("dt", {}, name), make("dd", {}, ...value));
  return list;
}

function large(run, person, elite, name) {
  const { encoding, undrawn } = facts.runs[run];
  const figure = make("figure", { class: "large" }), line = make("figcaption", { class: "soft" });
  const picture = pictureOf(run, person, elite);
  figure.style.margin = 0;
  if (!picture) {
    line.append(undrawn ? "Its picture is not here: " : "Its picture is not here: its genome was not kept.", undrawn ? isolated(undrawn) : "");
    figure.append(line);
    return figure;
  }
  describe(picture, name);
  picture.id = "picture";
  picture.classList.add("pixels");
  figure.append(picture);
  if (picture.localName === "img") {
    line.append("The picture as stored: ", isolated(undrawn), ".");
  } else {
    const sizes = [...new Set([encoding.width, 512, 1024, MOST_PIXELS])].filter((size) => size >= encoding.width);
    const buttons = sizes.map((size) => {
      const button = make("button", { type: "button", "aria-pressed": String(size === encoding.width) }, size === encoding.width ? `As scored, ${size} pixels wide` : String(size));
      button.onclick = () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        picture.classList.toggle("pixels", size === encoding.width);
        picture.done = paint(picture, genomeAt(run, person.genome), encoding, size, Math.round(size * encoding.height / encoding.width));
      };
      return button;
    });
    const save = make("button", { type: "button" }, "Save PNG");
    save.onclick = () => picture.toBlob((blob) => {
      const link = make("a", { href: URL.createObjectURL(blob), download: `${person.id}-${picture.width}.png` });
      link.click();
      URL.revokeObjectURL(link.href);
    });
    figure.append(make("div", { class: "top", role: "group", "aria-label": "Size of the picture" }, ...buttons, save));
    line.append("Drawn by this page from the genome. A CPPN is a function of coordinates, so it has every size; the network saw the first.");
  }
  figure.append(line);
  return figure;
}

// The first-parent line of an individual as the page holds it, the oldest first.
function lineOf(run, start) {
  const people = facts.runs[run].people, line = [start];
  while (people[line[0]].parent !== undefined) line.unshift(people[line[0]].parent);
  return line;
}

function strip(run, start, focus) {
  const { people } = facts.runs[run], list = make("ol", { id: "strip" });
  for (const place of lineOf(run, start)) {
    const person = people[place];
    if (person.between) list.append(make("li", { class: "between" }, `${person.between} more`));
    const elite = facts.runs[run].elites.findIndex((one) => one.person === place);
    const picture = pictureOf(run, person, elite < 0 ? undefined : elite, Math.min(92, facts.runs[run].encoding.width));
    const took = person.took.length ? person.took[0] + (person.tookAll > 1 ? ` and ${person.tookAll - 1} more` : "") : "no cell";
    const shown = picture ? describe(picture, `Individual ${person.id}`) : make("span", { class: "blank" }, "not kept");
    const link = make("a", { href: `#i${run}-${place}` }, shown, `generation ${person.generation}`, make("br"), isolated(took));
    if (place === start) link.href = location.hash;
    list.append(make("li", place === focus ? { "aria-current": "true" } : {}, link));
  }
  return list;
}

function studyTables(run, index) {
  const rows = JSON.parse(byId(`study-rows-${run}`).textContent), found = [];
  facts.runs[run].studies.forEach((study, s) => {
    if (!rows[s][index]) return;
    const head = make("tr", {}, ...study.columns.map((name) => make("th", { scope: "col" }, isolated(name))));
    const body = rows[s][index].map((row) => make("tr", {}, ...row.map((value) => make("td", {}, isolated(short(value))))));
    const table = make("table", { class: "figures" }, make("thead", {}, head), make("tbody", {}, ...body));
    found.push(make("h3", {}, isolated(study.name)), make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Rows of ${study.name}` }, table));
  });
  return found;
}

function open(run, place, index) {
  const { encoding, people, elites, name: runName } = facts.runs[run], person = people[place];
  const elite = index === undefined ? undefined : elites[index];
  const heading = make("h1", {}, elite ? isolated(elite.name) : `Individual ${person.id}`);
  const back = make("a", { href: "#gallery", id: "back" }, "Back to the gallery");
  const top = make("div", { class: "top" }, back);
  const i = elite ? visible.findIndex((entry) => entry.run === run && entry.index === index) : -1;
  for (const [text, key, other] of [["Previous", "previous", visible[i - 1]], ["Next", "next", visible[i + 1]]]) {
    if (i >= 0 && other) top.append(make("a", { href: `#${other.id}`, id: key }, text));
  }
  const pairs = [];
  if (facts.runs.length > 1) pairs.push(["run", isolated(runName)]);
  if (elite) {
    pairs.push([elite.activation === undefined ? "class" : "number of the unit", `${elite.class}${elite.bin === undefined ? "" : `, bin ${elite.bin}`}${elite.group ? `, a kind of ${elite.group}` : ""}`]);
    if (elite.activation !== undefined) pairs.push(["activation", short(elite.activation)]);
    else pairs.push(["confidence", make("span", { id: "confidence", "data-value": String(elite.confidence) }, percent(elite.confidence))], ["log-odds", short(elite.logOdds)]);
    const answers = make("ol", { class: "answers" });
    for (const [name, confidence] of elite.top) answers.append(make("li", {}, isolated(name), `, ${percent(confidence)}`));
    pairs.push([elite.top.length > 1 ? "the network's answers" : "the network's answer", answers]);
    pairs.push(["nodes, connections", `${elite.nodes}, ${elite.connections}`]);
  }
  pairs.push(["individual", person.id], ["generation, slot", `${person.generation}, ${person.slot}`]);
  pairs.push(["made by", isolated(person.operators.join(", ") || "random numbers")]);
  if (person.parents.length) pairs.push([person.parents.length > 1 ? "parents" : "parent", person.parents.join(", ")]);
  const took = person.took.flatMap((name, k) => [k ? ", " : "", isolated(name)]);
  if (took.length) pairs.push(["took the cells of", ...took, person.tookAll > person.took.length ? ` and ${person.tookAll - person.took.length} more` : ""]);
  const title = elite ? `Fooling image of ${elite.name}` : `Picture of individual ${person.id}`;
  const parts = [top, heading, make("div", { class: "sheet" }, large(run, person, index, title), make("div", { class: "about" }, definitions(pairs)))];
  const line = lineOf(run, place), oldest = people[line[0]];
  parts.push(make("h2", {}, "Ancestors"), make("p", { class: "hint" }, `By first parents, ${oldest.generation === 0 ? "back to generation 0" : oldest.parents.length ? "as far as they were kept" : `to one that began in generation ${oldest.generation}`}.`));
  parts.push(make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Ancestors" }, strip(run, place, place)));
  if (person.genome !== undefined) {
    const graph = networkOf(genomeAt(run, person.genome), encoding);
    parts.push(make("h2", {}, "Network"), make("p", { class: "hint" }, "Inputs are the place of a pixel: x, y, its distance d from the middle, and a bias of 1. A node applies the function drawn in it to the sum of what arrives; dashed connections have negative weights, thicker ones larger weights; what reaches no output is faint."));
    parts.push(make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Network" }, graph));
  }
  if (elite?.formula) {
    parts.push(make("h2", {}, "Formula"), make("pre", { id: "formula", tabindex: "0", "aria-label": "Formula" }, elite.formula));
    parts.push(make("p", { class: "hint" }, `x and y run ${encoding.coordinates === "raw" ? "over the pixels" : "from -1 to 1"}, d = sqrt(x² + y²) of these on [-1, 1]; sigmoid(p) = 2 / (1 + exp(-p)) - 1, gaussian(p) = exp(-p²), linear(p) = p / 3 kept within [-1, 1]. An output v is drawn as ${encoding.output === "absolute" ? "|v|" : "(v + 1) / 2"}, kept within [0, 1].`));
  }
  const tables = elite ? studyTables(run, index) : [];
  if (tables.length) parts.push(make("h2", {}, "In the studies"), ...tables);
  const main = byId("elite");
  main.replaceChildren(...parts);
  byId("overview").hidden = true;
  main.hidden = false;
  document.title = `${elite ? elite.name : person.id} – evofool report`;
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
  const box = byId("strip").parentElement;
  box.scrollLeft = box.scrollWidth;
}

const ownTitle = document.title;
let left = 0; // where the overview was when an elite was opened

function route() {
  const found = /^#([ei])(\d+)-(\d+)$/.exec(location.hash);
  const run = found && facts.runs[found[2]];
  const index = found ? Number(found[3]) : -1;
  if (!run || !(found[1] === "e" ? run.elites : run.people)[index]) {
    if (byId("overview").hidden) {
      byId("overview").hidden = false;
      byId("elite").hidden = true;
      byId("elite").replaceChildren();
      document.title = ownTitle;
      if (location.hash === "#gallery" || !location.hash) {
        window.scrollTo(0, left);
        current?.card.firstChild.focus({ preventScroll: true });
      } else {
        byId(location.hash.slice(1))?.scrollIntoView();
      }
    }
    return;
  }
  if (!byId("overview").hidden) left = window.scrollY;
  if (found[1] === "e") {
    rove(entries.find((entry) => entry.id === found[0].slice(1)));
    open(Number(found[2]), run.elites[index].person, index);
  } else {
    open(Number(found[2]), index, undefined);
  }
}

// ------------------------------------------------------------------------------------------------ keys and theme

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(input|select|textarea)$/i.test(event.target.localName);
  if (!byId("elite").hidden) {
    if (event.key === "Escape") location.hash = "#gallery";
    if (!typing && event.key === "j") byId("next")?.click();
    if (!typing && event.key === "k") byId("previous")?.click();
    return;
  }
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("search").focus();
  } else if (event.key === "Escape" && event.target.id === "search") {
    byId("search").value = "";
    arrange();
  } else if (byId("cards").contains(event.target) && /^(Arrow|Home|End)/.test(event.key)) {
    event.preventDefault();
    const next = moved(event.key);
    if (next) {
      rove(next);
      next.card.firstChild.focus();
    }
  }
});

const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(chosen) {
  document.documentElement.dataset.theme = chosen;
  byId("theme").textContent = chosen === "dark" ? "Light" : "Dark";
}
byId("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
theme(dark.matches ? "dark" : "light");

document.documentElement.classList.add("js");
for (const entry of entries) entry.card.firstChild.setAttribute("tabindex", "-1");
byId("controls").addEventListener("input", arrange);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", route);
arrange();
route();

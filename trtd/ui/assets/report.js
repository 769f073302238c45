"use strict";
// Draws the charts of the report. Text from the data only ever becomes textContent or canvas text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const short = (value, digits = 3) => (value === 0 ? "0" : String(Number(value.toPrecision(digits))));
  const percent = (share) => (share === 0 ? "0 %" : short(share * 100, 2) + " %");
  const charts = new Map(); // plot element -> function that draws it
  const PRINT_WIDTH = 640;
  let printing = false;

  const FLOOR = 0.5; // an empty bin on a log scale

  function axes(xFormat, yFormat, ySplits) {
    const base = {
      stroke: color("faint"), font: "12px " + color("sans"),
      grid: { stroke: color("grid"), width: 1 }, ticks: { show: false },
    };
    return [
      { ...base, values: (_, ticks) => ticks.map(xFormat), size: 28, space: 70, grid: { show: false } },
      { ...base, values: (_, ticks) => ticks.map(yFormat), size: 48, splits: ySplits },
    ];
  }

  function draw(plot, options, series) {
    plot.textContent = "";
    const width = printing ? PRINT_WIDTH : plot.clientWidth;
    const height = parseFloat(getComputedStyle(plot).minHeight);
    new uPlot({
      width, height, padding: [14, 12, 0, 0], legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } }, ...options,
    }, series, plot);
  }

  function register(plot, drawing) {
    charts.set(plot, drawing);
    plot.closest("figure").hidden = false;
    drawing();
  }

  // The whole range, unless the reader has zoomed to a part of the data.
  const zoomable = (full, first, last) => (_, low, high) => (low > first || high < last ? [low, high] : full);

  function line(u, x, style, width, dash, label, row = 0) {
    const at = u.valToPos(x, "x", true);
    if (at < u.bbox.left - 1 || at > u.bbox.left + u.bbox.width + 1) return;
    const { ctx } = u, px = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = style;
    ctx.lineWidth = width * px;
    ctx.setLineDash(dash.map((d) => d * px));
    ctx.beginPath();
    ctx.moveTo(at, u.bbox.top);
    ctx.lineTo(at, u.bbox.top + u.bbox.height);
    ctx.stroke();
    if (label) text(u, label, at, u.bbox.top + (12 + row * 14) * px, style);
    ctx.restore();
  }

  function text(u, label, x, y, style) {
    const { ctx } = u, px = devicePixelRatio;
    ctx.font = `600 ${11 * px}px ${color("sans")}`;
    const width = ctx.measureText(label).width;
    const right = x + width + 8 * px < u.bbox.left + u.bbox.width;
    ctx.textAlign = "left";
    ctx.lineJoin = "round";
    ctx.setLineDash([]);
    ctx.lineWidth = 4 * px;
    ctx.strokeStyle = color("paper");
    const at = right ? x + 6 * px : x - width - 6 * px;
    ctx.strokeText(label, at, y);
    ctx.fillStyle = style;
    ctx.fillText(label, at, y);
  }

  // -- latency ---------------------------------------------------------------------------------------------------

  function ecdf(samples, rise) {
    const x = [samples[0] - rise], y = [0];
    samples.forEach((sample, i) => {
      if (sample !== x[x.length - 1]) x.push(sample);
      y[x.length - 1] = (i + 1) / samples.length;
    });
    return [x, y];
  }

  function latency() {
    const plot = document.querySelector("#latency .plot");
    if (!data.latency) return;
    const { engine, fp32 } = data.latency;
    const all = [...engine.samples, ...fp32.samples];
    if (!engine.samples.length || !fp32.samples.length) return;
    const low = Math.min(...all), high = Math.max(...all), margin = (high - low || high || 1) * 0.06;
    const range = [Math.max(0, low - margin), high + margin];
    const series = uPlot.join([ecdf(engine.samples, margin * 1e-6), ecdf(fp32.samples, margin * 1e-6)]);
    const stepped = uPlot.paths.stepped({ align: 1 });
    const readout = document.querySelector("#latency output");
    const shareAt = (samples, ms) => samples.filter((s) => s <= ms).length / samples.length;
    register(plot, () => {
      const look = (name) => ({ stroke: color(name), width: 2, paths: stepped, spanGaps: true, points: { show: false } });
      draw(plot, {
        scales: { x: { time: false, range: zoomable(range, low, high) }, y: { range: [0, 1.04] } },
        axes: axes((v) => short(v) + " ms", (v) => Math.round(v * 100) + " %", () => [0, 0.25, 0.5, 0.75, 1]),
        series: [{}, look("engine"), look("fp32")],
        hooks: {
          draw: [(u) => marks(u, engine, "engine"), (u) => marks(u, fp32, "fp32")],
          setCursor: [(u) => {
            const ms = u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : null;
            readout.textContent = ms === null ? "" :
              `within ${short(ms)} ms: engine ${percent(shareAt(engine.samples, ms))}, FP32 ${percent(shareAt(fp32.samples, ms))}`;
          }],
        },
      }, series);
    });
  }

  function marks(u, runs, name) {
    for (const [label, ms, share] of [["p50", runs.p50, 0.5], ["p99", runs.p99, 0.99]]) {
      if (ms === null) continue;
      const { ctx } = u, px = devicePixelRatio, x = u.valToPos(ms, "x", true), y = u.valToPos(share, "y", true);
      if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
      ctx.save();
      ctx.fillStyle = color(name);
      ctx.beginPath();
      ctx.arc(x, y, 4.5 * px, 0, 2 * Math.PI);
      ctx.fill();
      text(u, `${label} ${short(ms)} ms`, x + 3 * px, y + (share > 0.9 ? 18 : 4) * px, color(name));
      ctx.restore();
    }
  }

  // -- histograms ------------------------------------------------------------------------------------------------

  function powersOfTen(top) {
    const count = Math.max(Math.ceil(Math.log10(top)), 1), step = Math.ceil(count / 6);
    return Array.from({ length: Math.floor(count / step) + 1 }, (_, i) => 10 ** (i * step));
  }
  const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const power = (v) => (v < 1000 ? String(v) : "10" + String(Math.round(Math.log10(v))).replace(/\d/g, (d) => SUPERSCRIPT[d]));

  function histogram(plot, edges, counts, lines, readout) {
    const top = Math.max(...counts, 1);
    const heights = counts.map((count) => Math.max(count, FLOOR));
    const bounds = [Math.min(edges[0], ...lines.map((l) => l.at)), Math.max(edges[edges.length - 1], ...lines.map((l) => l.at))];
    const margin = (bounds[1] - bounds[0] || 1) * 0.02;
    const full = [bounds[0] - margin, bounds[1] + margin];
    draw(plot, {
      scales: {
        x: { time: false, range: zoomable(full, edges[0], edges[edges.length - 1]) },
        y: { distr: 3, range: () => [FLOOR, top * 2] },
      },
      axes: axes((v) => short(v), power, () => powersOfTen(top)),
      series: [{}, {
        stroke: color("bars"), fill: color("bars"), width: 1, points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }), fillTo: () => FLOOR,
      }],
      hooks: {
        draw: [(u) => lines.forEach((l) => line(u, l.at, l.style, l.width, l.dash, l.label, l.row))],
        setCursor: [(u) => {
          const i = u.cursor.left >= 0 ? edges.findLastIndex((edge) => edge <= u.posToVal(u.cursor.left, "x")) : -1;
          readout.textContent = i < 0 || i >= counts.length ? "" :
            `${short(edges[i])} to ${short(edges[i + 1])}: ${counts[i].toLocaleString("en")}`;
        }],
      },
    }, [edges, [...heights, heights[heights.length - 1]]]);
  }

  function errors() {
    document.querySelectorAll("[data-errors]").forEach((figure) => {
      const { edges, counts } = data.errors[Number(figure.dataset.errors)];
      const plot = figure.querySelector(".plot");
      if (!counts.length) {
        figure.hidden = false;
        plot.style.minHeight = "0";
        plot.textContent = "The errors are not finite numbers, so there is no histogram.";
        return;
      }
      register(plot, () => histogram(plot, edges, counts,
        [{ at: 0, style: color("faint"), width: 1, dash: [3, 3] }], figure.querySelector("output")));
    });
  }

  // -- calibrated ranges -----------------------------------------------------------------------------------------

  const kind = document.getElementById("activation");
  let picked = -1;

  function range() {
    const tensor = data.tensors[picked];
    const figure = document.getElementById("range");
    const chosen = tensor[kind.value];
    figure.hidden = false;
    document.getElementById("range-name").textContent = tensor.name;
    methods(chosen);
    const edges = Array.from({ length: tensor.counts.length + 1 }, (_, i) => tensor.start + i * tensor.width);
    const lines = data.methods.filter((m) => chosen[m]).sort((m) => (m === data.method ? 1 : -1)).flatMap((m, row) => {
      const [low, high] = chosen[m], best = m === data.method;
      const look = { style: color(m), width: best ? 2.5 : 1.5, dash: best ? [] : [5, 4], row };
      return [low === null || low === 0 ? null : { ...look, at: low }, high === null || high === 0 ? null : { ...look, at: high, label: best ? m : "" }];
    }).filter(Boolean);
    histogram(figure.querySelector(".plot"), edges, tensor.counts, lines, figure.querySelector("output"));
  }

  function methods(chosen) {
    const steps = kind.value === "int8" ? 254 : 255;
    const rows = data.methods.filter((m) => chosen[m]).map((m) => {
      const [low, high, clipped] = chosen[m], row = document.createElement("tr");
      row.className = m === data.method ? "is-chosen" : "";
      const label = document.createElement("td"), swatch = document.createElement("i");
      swatch.style.borderColor = color(m);
      label.append(swatch, m + (m === data.method ? " (chosen)" : ""));
      row.append(label);
      const known = low !== null && high !== null;
      const cells = known ? [short(low, 4), short(high, 4), short((high - low) / steps), percent(clipped)] : ["–", "–", "–", "–"];
      for (const cell of cells) {
        const td = document.createElement("td");
        td.className = "number";
        td.textContent = cell;
        row.append(td);
      }
      return row;
    });
    document.getElementById("range-methods").replaceChildren(...rows);
  }

  function pick(position) {
    const tensor = data.tensors[position];
    if (!tensor || tensor.start === null || !tensor.counts.length) return;
    picked = position;
    for (const row of document.getElementById("tensors").rows) {
      const here = Number(row.dataset.position) === position;
      row.classList.toggle("is-picked", here);
      row.querySelector("button").setAttribute("aria-pressed", String(here));
    }
    charts.set(document.querySelector("#range .plot"), range);
    range();
  }

  function table() {
    const body = document.getElementById("tensors"), rows = [...body.rows];
    const find = document.getElementById("find"), order = document.getElementById("order"), found = document.getElementById("found");
    kind.value = data.activation === "int8" ? "int8" : "uint8";
    document.querySelector(".picker").hidden = false;
    for (const row of rows) {
      const name = row.querySelector("bdi"), button = document.createElement("button");
      button.type = "button";
      button.textContent = name.textContent;
      name.replaceChildren(button);
      row.classList.add("can-pick");
      row.addEventListener("click", () => pick(Number(row.dataset.position)));
    }
    const filter = () => {
      const wanted = find.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = wanted !== "" && !data.tensors[Number(row.dataset.position)].name.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      found.textContent = `${shown} of ${rows.length} tensors`;
    };
    const sort = () => {
      const key = order.value, sign = key === "clipped" ? -1 : 1;
      const value = (row) => sign * Number(row.dataset[key]);
      body.append(...rows.sort((a, b) => value(a) - value(b) || a.dataset.position - b.dataset.position));
    };
    find.addEventListener("input", filter);
    order.addEventListener("change", sort);
    kind.addEventListener("change", () => picked >= 0 && range());
    document.querySelector(".picker").addEventListener("submit", (event) => event.preventDefault());
    document.querySelectorAll("[data-tensor]").forEach((link) => link.addEventListener("click", () => pick(Number(link.dataset.tensor))));
    filter();
    const worst = document.querySelector("[data-tensor]");
    pick(worst ? Number(worst.dataset.tensor) : 0);
  }

  latency();
  errors();
  if (data.tensors.length) table();

  const redraw = () => charts.forEach((drawing) => drawing());
  let width = innerWidth, pending = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    if (innerWidth !== width) pending = requestAnimationFrame(() => { width = innerWidth; redraw(); });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // Paper is white whatever the screen is: data-print turns the dark palette off before the charts are drawn.
  const print = (on) => { printing = on; root.toggleAttribute("data-print", on); redraw(); };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();

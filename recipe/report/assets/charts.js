// Draws every <div class="chart"> from the JSON beside it: stacked panels over one x axis, hover, drag to zoom, log axes, keys.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEFT = 62, RIGHT = 14, TOP = 20, BOTTOM = 26, GAP = 40;

  function node(name, attributes, parent, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }

  function html(name, className, parent, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }

  const trim = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);

  const formats = {
    count(value) {
      for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["K", 1e3]])
        if (Math.abs(value) >= size) return trim((value / size).toPrecision(4)) + unit;
      return trim(value.toPrecision(4));
    },
    percent: (value) => trim((100 * value).toPrecision(3)) + "%",
    number(value) {
      if (value === 0) return "0";
      const size = Math.abs(value);
      return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : trim(value.toPrecision(5));
    },
  };

  function ticks(low, high, count, log) {
    if (log) {
      const found = [];
      const spare = Math.log10(high / low) > 3;
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const digit of spare ? [1] : [1, 2, 5]) {
          const value = digit * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      if (found.length > 1) return found;
    }
    const raw = (high - low) / Math.max(count, 1);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 2.5, 5].find((digit) => digit * power >= raw) ?? 10);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
    return found;
  }

  function scale(domain, range, log) {
    const to = log ? Math.log : (value) => value;
    const from = log ? Math.exp : (value) => value;
    const [low, high] = domain.map(to);
    const span = high - low || 1;
    const map = (value) => range[0] + ((to(value) - low) / span) * (range[1] - range[0]);
    map.back = (pixel) => from(low + ((pixel - range[0]) / (range[1] - range[0])) * span);
    return map;
  }

  function nearest(values, wanted) {
    let low = 0, high = values.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (values[middle] < wanted) low = middle; else high = middle;
    }
    return Math.abs(values[low] - wanted) <= Math.abs(values[high] - wanted) ? low : high;
  }

  class Chart {
    constructor(root, spec) {
      Object.assign(this, { root, spec, logX: false, logY: false, whole: false, zoom: null, cursor: null, hidden: new Set() });
      const xs = this.series().flatMap((series) => [series.x[0], series.x[series.x.length - 1]]);
      this.extent = [Math.min(...xs), Math.max(...xs)];
      if (this.extent[0] === this.extent[1]) this.extent = [this.extent[0] - 1, this.extent[1] + 1];
      if (!spec.logXOnly) this.extent[0] = Math.min(this.extent[0], spec.x === "tokens" ? 0 : this.extent[0]);
      this.buildBar();
      this.svg = node("svg", { tabindex: 0, role: "group", "aria-label": `${spec.title}. Arrow keys read values, plus and minus zoom, 0 resets.` }, root);
      this.tip = html("div", "tip", root);
      this.tip.hidden = true;
      this.tip.setAttribute("role", "status");
      this.listen();
      new ResizeObserver(() => this.draw()).observe(root);
      this.draw();
    }

    series() { return this.spec.panels.flatMap((panel) => panel.series); }

    buildBar() {
      const bar = (this.bar = html("div", "bar", this.root));
      const names = [...new Map(this.series().map((series) => [series.name, series])).values()];
      if (names.length > 1) for (const series of names) this.legend(bar, series);
      html("span", "space", bar);
      this.toggle(bar, "log " + this.spec.x, "logX");
      if (this.spec.panels.some((panel) => panel.canLog)) this.toggle(bar, "log values", "logY");
      if (this.spec.panels.some((panel) => this.trimmed(panel))) this.toggle(bar, "whole range", "whole");
      this.resetButton = html("button", "", bar, "reset zoom");
      this.resetButton.type = "button";
      this.resetButton.hidden = true;
      this.resetButton.addEventListener("click", () => this.zoomTo(null));
    }

    legend(bar, series) {
      const button = html("button", "legend", bar);
      button.type = "button";
      html("span", "swatch", button).style.setProperty("--color", `var(--c${series.color % 8})`);
      html("span", "", button, series.name);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!this.hidden.delete(series.name)) this.hidden.add(series.name);
        button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
        this.draw();
      });
    }

    toggle(bar, label, key) {
      const button = html("button", "", bar, label);
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        this[key] = !this[key];
        button.setAttribute("aria-pressed", String(this[key]));
        this.draw();
      });
    }

    domainX() {
      const [low, high] = this.zoom ?? this.extent;
      if (!this.logX) return [low, high];
      const least = Math.min(...this.series().map((series) => series.x.find((value) => value > 0) ?? high));
      return [Math.max(low, least), high];
    }

    /* Where a steep beginning would flatten the rest: the greatest value drawn unless the whole range is asked for. */
    trimmed(panel) {
      if (panel.zero || !panel.canLog) return null;
      const values = panel.series.filter((series) => series.kind === "line").flatMap((series) => series.y).sort((a, b) => a - b);
      if (values.length < 40) return null;
      const [low, middle, most, high] = [0, 0.5, 0.95, 0.9999].map((part) => values[Math.floor(part * (values.length - 1))]);
      const reach = Math.max(most, middle + (middle - low) * 1.6);
      return high > low + (reach - low) * 1.5 ? reach : null;
    }

    domainY(panel, [x0, x1]) {
      let low = Infinity, high = -Infinity;
      for (const series of panel.series) {
        if (this.hidden.has(series.name) || (series.kind === "faint" && panel.series.length > 1 && !panel.zero)) continue;
        series.x.forEach((x, i) => {
          if (x < x0 || x > x1 || (this.useLog(panel) && series.y[i] <= 0)) return;
          low = Math.min(low, series.y[i]);
          high = Math.max(high, series.y[i]);
        });
      }
      if (low === Infinity) return this.useLog(panel) ? [0.1, 1] : [0, 1];
      const cut = this.trimmed(panel);
      if (cut !== null && !this.whole && !this.zoom && !this.useLog(panel)) high = Math.min(high, cut);
      if (this.useLog(panel)) return low === high ? [low / 2, high * 2] : [low / 1.03, high * 1.03];
      if (panel.zero) return [0, high * 1.08 || 1];
      const pad = (high - low) * 0.07 || Math.abs(high) * 0.05 || 1;
      return [low - pad, high + pad];
    }

    useLog(panel) { return this.logY && panel.canLog; }

    draw() {
      const width = Math.max(this.root.clientWidth, 240);
      const panels = this.spec.panels;
      const height = TOP + BOTTOM + panels.reduce((sum, panel) => sum + panel.height, 0) + GAP * (panels.length - 1);
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.setAttribute("height", height);
      const domain = this.domainX();
      this.x = scale(domain, [LEFT, width - RIGHT], this.logX);
      this.frames = [];
      let top = TOP;
      for (const [index, panel] of panels.entries()) {
        this.drawPanel(panel, top, width, domain, index);
        top += panel.height + GAP;
      }
      this.drawX(domain, width, top - GAP);
      this.bottom = top - GAP;
      this.overlay = node("g", {}, this.svg);
      if (this.cursor !== null) this.readout(this.cursor);
    }

    drawPanel(panel, top, width, domain, index) {
      const bottom = top + panel.height;
      const y = scale(this.domainY(panel, domain), [bottom, top], this.useLog(panel));
      const format = formats[panel.format] ?? formats.number;
      const id = `clip-${this.spec.id}-${index}`;
      node("rect", { x: LEFT, y: top - 2, width: width - LEFT - RIGHT, height: panel.height + 4 }, node("clipPath", { id }, this.svg));
      for (const tick of ticks(...this.domainY(panel, domain), panel.height / 44, this.useLog(panel))) {
        node("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }, this.svg);
        node("text", { class: "axis", x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, this.svg, format(tick));
      }
      node("text", { class: "label", x: LEFT, y: top - 8 }, this.svg, panel.label);
      this.drawMarks(top, bottom, domain, index === 0);
      const area = node("g", { "clip-path": `url(#${id})` }, this.svg);
      for (const series of panel.series) if (!this.hidden.has(series.name)) this.drawSeries(series, y, area, panel);
      this.frames.push({ panel, y, top, bottom, format });
    }

    drawMarks(top, bottom, domain, labelled) {
      const inside = (value) => value > domain[0] && value < domain[1];
      for (const band of this.spec.bands) {
        if (inside(band.from) && band.from > 0) node("line", { class: "band", x1: this.x(band.from), x2: this.x(band.from), y1: top, y2: bottom }, this.svg);
        const from = Math.max(band.from, domain[0]), to = Math.min(band.to, domain[1]);
        const room = this.x(to) - this.x(from);
        if (labelled && this.spec.bands.length > 1 && to > from && room > 7 * band.label.length)
          node("text", { class: "band-label", x: (this.x(from) + this.x(to)) / 2, y: top + 12, "text-anchor": "middle" }, this.svg, band.label);
      }
      for (const mark of this.spec.marks) {
        if (!inside(mark.x)) continue;
        node("line", { class: "mark", x1: this.x(mark.x), x2: this.x(mark.x), y1: top, y2: bottom }, this.svg);
        if (labelled) node("text", { class: "mark-label", x: this.x(mark.x) + 4, y: bottom - 6 }, this.svg, mark.label);
      }
    }

    drawSeries(series, y, area, panel) {
      const usable = series.x.map((_, i) => i).filter((i) => (!this.logX || series.x[i] > 0) && (!this.useLog(panel) || series.y[i] > 0));
      if (!usable.length) return;
      const point = (i, value) => `${this.x(series.x[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      const color = `var(--c${series.color % 8})`;
      if (series.kind === "faint" && series.low) {
        const floor = this.useLog(panel) ? 1e-12 : -Infinity;
        const upper = usable.map((i) => point(i, series.high[i]));
        const lower = usable.map((i) => point(i, Math.max(series.low[i], floor))).reverse();
        node("path", { d: "M" + upper.concat(lower).join("L") + "Z", fill: color, "fill-opacity": 0.18 }, area);
        return;
      }
      const style = series.kind === "faint" ? { "stroke-width": 1, "stroke-opacity": 0.3 } : { "stroke-width": 1.8 };
      if (series.dash) style["stroke-dasharray"] = "5 4";
      node("path", { d: "M" + usable.map((i) => point(i, series.y[i])).join("L"), fill: "none", stroke: color, "stroke-linejoin": "round", ...style }, area);
      if (series.kind === "dots") for (const i of usable) node("circle", { cx: this.x(series.x[i]), cy: y(series.y[i]), r: 3, fill: color }, area);
    }

    drawX(domain, width, bottom) {
      node("line", { class: "base", x1: LEFT, x2: width - RIGHT, y1: bottom, y2: bottom }, this.svg);
      const format = formats[this.spec.xFormat ?? "count"];
      let last = -Infinity;
      for (const tick of ticks(...domain, width / 110, this.logX)) {
        if (this.x(tick) - last < 44) continue;
        last = this.x(tick);
        node("text", { class: "axis", x: last, y: bottom + 17, "text-anchor": "middle" }, this.svg, format(tick));
      }
      node("text", { class: "axis", x: 0, y: bottom + 17 }, this.svg, this.spec.x);
    }

    readout(value) {
      this.cursor = value;
      this.overlay.replaceChildren();
      this.tip.replaceChildren();
      const at = this.x(value);
      node("line", { class: "cross", x1: at, x2: at, y1: TOP, y2: this.bottom }, this.overlay);
      html("b", "", this.tip, `${formats[this.spec.xFormat ?? "count"](value)} ${this.spec.x}`);
      for (const { panel, y, top, bottom, format } of this.frames)
        for (const series of panel.series) {
          if (series.quiet || this.hidden.has(series.name)) continue;
          if (value < series.x[0] - 1e-9 || value > series.x[series.x.length - 1] + 1e-9) continue;
          const i = nearest(series.x, value);
          const row = html("div", "", this.tip);
          const what = html("span", "what", row);
          html("span", "swatch", what).style.setProperty("--color", `var(--c${series.color % 8})`);
          html("span", "", what, panel.series.filter((other) => !other.quiet).length > 1 ? series.name : panel.label);
          html("span", "", row, format(series.y[i]));
          const height = y(series.y[i]);
          if (height >= top - 3 && height <= bottom + 3) node("circle", { cx: this.x(series.x[i]), cy: height, r: 3.5, fill: `var(--c${series.color % 8})` }, this.overlay);
        }
      this.tip.hidden = false;
      const box = this.tip.getBoundingClientRect(), room = this.root.clientWidth;
      this.tip.style.left = `${Math.max(0, at + 16 + box.width > room ? at - box.width - 16 : at + 16)}px`;
      this.tip.style.top = `${this.bar.offsetHeight + TOP + 26}px`;
    }

    leave() {
      this.cursor = null;
      this.tip.hidden = true;
      this.overlay.replaceChildren();
    }

    zoomTo(range) {
      if (range && range[1] - range[0] < (this.extent[1] - this.extent[0]) * 1e-4) return;
      this.zoom = range;
      this.resetButton.hidden = range === null;
      this.draw();
    }

    listen() {
      const svg = this.svg;
      const pixel = (event) => {
        const box = svg.getBoundingClientRect();
        const [low, high] = [LEFT, box.width - RIGHT];
        return Math.min(Math.max(event.clientX - box.left, low), high);
      };
      let start = null;
      svg.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse" && event.button === 0) start = pixel(event); });
      svg.addEventListener("pointermove", (event) => {
        this.readout(this.x.back(pixel(event)));
        if (start !== null && Math.abs(pixel(event) - start) > 4) {
          const [from, to] = [start, pixel(event)].sort((a, b) => a - b);
          node("rect", { class: "brush", x: from, width: to - from, y: TOP, height: this.bottom - TOP }, this.overlay);
        }
      });
      window.addEventListener("pointerup", (event) => {
        if (start === null) return;
        const range = [this.x.back(start), this.x.back(pixel(event))].sort((a, b) => a - b);
        const moved = Math.abs(pixel(event) - start) > 6;
        start = null;
        if (moved) this.zoomTo(range);
      });
      svg.addEventListener("pointerleave", () => this.leave());
      svg.addEventListener("blur", () => this.leave());
      svg.addEventListener("dblclick", () => this.zoomTo(null));
      svg.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const [low, high] = this.domainX();
      const at = this.cursor ?? this.x.back((this.x(low) + this.x(high)) / 2);
      const move = (by) => this.readout(Math.min(Math.max(this.x.back(this.x(at) + by), low), high));
      const zoom = (by) => {
        const half = ((high - low) / 2) * by;
        const range = [Math.max(at - half, this.extent[0]), Math.min(at + half, this.extent[1])];
        this.zoomTo(range[0] <= this.extent[0] && range[1] >= this.extent[1] ? null : range);
      };
      const actions = {
        ArrowLeft: () => move(event.shiftKey ? -40 : -4), ArrowRight: () => move(event.shiftKey ? 40 : 4),
        "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => this.zoomTo(null), Escape: () => this.leave(),
      };
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    }
  }

  function themes() {
    const root = document.documentElement, button = document.getElementById("theme");
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const forced = new URLSearchParams(location.search).get("theme");
    let chosen = forced;
    const show = () => {
      const theme = chosen ?? (system.matches ? "dark" : "light");
      root.dataset.theme = theme;
      button.textContent = theme === "dark" ? "light page" : "dark page";
    };
    button.addEventListener("click", () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; show(); });
    system.addEventListener("change", show);
    window.addEventListener("beforeprint", () => { root.dataset.theme = "light"; document.querySelectorAll("details").forEach((part) => (part.open = true)); });
    window.addEventListener("afterprint", show);
    show();
  }

  themes();
  for (const root of document.querySelectorAll(".chart")) new Chart(root, JSON.parse(root.querySelector("script").textContent));
})();

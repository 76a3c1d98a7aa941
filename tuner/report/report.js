(() => {
  "use strict";
  // Figures are stored for a bright screen; these are their colours on a dark one.
  const DARK = {
    "#1c2127": "#e6e9ed", "#8c8c8c": "#87919c", "#e4e7eb": "#2c333b", "#0072b2": "#4aa8e8",
    "#56b4e9": "#a9dcff", "#000000": "#f2f2f2", "#d55e00": "#f08a3c",
    "0 0 3px #ffffff, 0 0 2px #ffffff": "0 0 3px #14171b, 0 0 2px #14171b",
  };
  const darkScreen = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const hover = new Map();
  let panels = [];

  // Figures are drawn again for another theme, and in bright colours for paper.
  function draw(panel, paper = false) {
    if (panel.plot.clientWidth === 0) return; // it is hidden
    const dark = darkScreen.matches && !paper;
    const figure = JSON.parse(panel.text, (_, value) => (dark && DARK[value]) || value);
    const narrow = panel.plot.clientWidth < 480;
    for (const trace of figure.data) {
      if (trace.customdata && trace.hovertext) {
        trace.customdata.forEach((name, i) => hover.has(name) || hover.set(name, trace.hovertext[i]));
      } else if (trace.customdata) {
        trace.hovertext = trace.customdata.map((name) => hover.get(name) || name);
      }
      if (narrow && trace.mode) trace.mode = trace.mode.replace("+text", "");
    }
    const layout = figure.layout;
    layout.hoverlabel.bgcolor = dark ? "#1c2026" : "#ffffff";
    layout.hoverlabel.bordercolor = dark ? "#4a545f" : "#c5ccd3";
    layout.hoverlabel.font.color = layout.font.color;
    layout.autosize = true;
    if (touch) layout.dragmode = false; // a finger scrolls the page
    const config = {
      responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { filename: document.title, scale: 2 },
    };
    Plotly.react(panel.plot, figure.data, layout, config);
    if (!panel.drawn) panel.plot.on("plotly_click", (event) => pick(event.points[0].customdata));
    if (!panel.drawn && panel.choices.length) {
      panel.plot.on("plotly_hover", (event) => drawBold(panel, event.points[0].customdata));
      panel.plot.on("plotly_unhover", () => drawBold(panel, null));
    }
    panel.drawn = true;
    choose(panel);
  }

  // Of a figure whose lines one may choose: those that are left out, and the one over which the mouse is.
  function choose(panel) {
    const chosen = panel.choices.find((radio) => radio.checked);
    if (!chosen || !panel.drawn) return;
    const hidden = chosen.dataset.hidden.split(" ");
    Plotly.restyle(panel.plot, { visible: panel.plot.data.map((_, i) => !hidden.includes(String(i))) });
  }
  function drawBold(panel, name) {
    const [x, y] = [[], []];
    for (const trace of name ? panel.plot.data : []) {
      (trace.customdata || []).forEach((own, i) => {
        if (own === name) { x.push(trace.x[i]); y.push(trace.y[i]); }
      });
    }
    Plotly.restyle(panel.plot, { x: [x], y: [y] }, [panel.plot.data.length - 1]);
  }

  function plain(text) {
    // The text was escaped for the figure; a text area undoes that without running anything.
    const area = document.createElement("textarea");
    area.innerHTML = text;
    return area.value;
  }
  function pick(name) {
    const picked = document.getElementById("picked");
    const row = name && document.getElementById("t-" + name);
    document.querySelectorAll("tr.picked").forEach((other) => other.classList.remove("picked"));
    if (!row || !picked) return;
    row.classList.add("picked");
    const link = Object.assign(document.createElement("a"), { href: "#" + row.id, textContent: "its row" });
    const lines = (hover.get(name) || name).replace(/<\/?b>/g, "").split("<br>");
    const bold = Object.assign(document.createElement("b"), { textContent: plain(lines[0]) });
    picked.replaceChildren(bold, " " + plain(lines.slice(1).join(" · ")) + " · ", link);
  }

  // The front is drawn at once; the others when they come near the window, one by one, so that the page responds.
  const waiting = [];
  function drawNext() {
    const panel = waiting.shift();
    if (panel) {
      if (!panel.drawn) draw(panel);
      setTimeout(drawNext, 0);
    } else if (!document.documentElement.dataset.opened) {
      document.documentElement.dataset.opened = "true";
      performance.mark("opened");
    }
  }
  const watcher = new IntersectionObserver((entries) => {
    const near = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    near.forEach((plot) => watcher.unobserve(plot));
    const idle = waiting.length === 0;
    waiting.push(...panels.filter((panel) => near.includes(panel.plot)));
    if (idle) drawNext();
  }, { rootMargin: "500px 0px" });
  darkScreen.addEventListener("change", () => panels.filter((p) => p.drawn).forEach((p) => draw(p)));
  addEventListener("beforeprint", () => panels.forEach((panel) => draw(panel, true)));
  addEventListener("afterprint", () => panels.forEach((panel) => draw(panel)));

  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      sort(table, column, head.getAttribute("aria-sort") === "ascending");
    }));
  }
  function sort(table, column, down) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent.trim(), row]);
    const numbers = rows.every(([text]) => text === "" || !Number.isNaN(Number(text)));
    rows.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // rows without a value come last
      const order = numbers ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a browser without a clipboard for pages: by a selection
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }
  function addCopyButton(pre) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
    button.className = "button";
    button.setAttribute("aria-label", "Copy " + pre.dataset.copy);
    button.addEventListener("click", async () => {
      await copy(pre.textContent);
      said.textContent = "Copied";
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 1500);
    });
    pre.before(button);
  }
  const said = Object.assign(document.createElement("p"), { className: "unseen" });
  said.setAttribute("role", "status");
  document.body.append(said);

  function showCost(cost) {
    for (const part of document.querySelectorAll(".of-cost")) part.hidden = part.dataset.cost !== cost;
    panels.filter((panel) => !panel.drawn && panel.plot.closest(".of-cost")).forEach((panel) => draw(panel));
    panels.filter((panel) => panel.drawn && panel.plot.closest(`[data-cost="${cost}"]`))
      .forEach((panel) => Plotly.Plots.resize(panel.plot));
  }

  // All that is done to the page as it was loaded, and again to each newer one.
  function begin() {
    watcher.disconnect();
    panels = [...document.querySelectorAll("figure.panel")].map((figure) => ({
      plot: figure.querySelector(".plot"),
      text: figure.querySelector("script").textContent,
      choices: [...figure.querySelectorAll("input[type=radio]")],
      drawn: false,
    }));
    for (const panel of panels) {
      panel.choices.forEach((radio) => radio.addEventListener("change", () => choose(panel)));
    }
    if (panels.length) draw(panels[0]);
    panels.forEach((panel) => watcher.observe(panel.plot));
    if (!panels.length) drawNext();
    document.querySelectorAll("table.sortable").forEach(makeSortable);
    document.querySelectorAll("pre[data-copy]").forEach(addCopyButton);
    for (const radio of document.querySelectorAll("input[name=cost]")) {
      radio.addEventListener("change", () => showCost(radio.value));
    }
  }
  begin();
  performance.mark("front drawn");

  // What a reader has opened, sorted, chosen and scrolled to stays through a newer page.
  function keep() {
    const opened = [...document.querySelectorAll("details[open][id]")].map((details) => details.id);
    const chosen = [...document.querySelectorAll("input[type=radio]:checked")];
    const sorted = [...document.querySelectorAll("table.sortable")].map((table) => {
      const head = table.querySelector("th[aria-sort]");
      return head && [head.cellIndex, head.getAttribute("aria-sort") === "descending"];
    });
    const scrolled = [...document.querySelectorAll("[role=region]")].map(
      (part) => [part.getAttribute("aria-label"), part.scrollLeft, part.scrollTop]);
    const picked = document.querySelector("tr.picked");
    const focused = document.activeElement;
    const same = focused && (focused.getAttribute("aria-label") || focused.getAttribute("href"));
    const [x, y] = [scrollX, scrollY];
    return () => {
      opened.forEach((id) => { const found = document.getElementById(id); if (found) found.open = true; });
      for (const radio of document.querySelectorAll("input[type=radio]:not(:checked)")) {
        if (chosen.some((other) => other.name === radio.name && other.value === radio.value)) radio.click();
      }
      document.querySelectorAll("table.sortable").forEach((table, index) => {
        if (sorted[index]) sort(table, ...sorted[index]);
      });
      if (picked) pick(picked.id.slice(2));
      for (const part of document.querySelectorAll("[role=region]")) {
        const own = scrolled.find(([label]) => label === part.getAttribute("aria-label"));
        if (own) [part.scrollLeft, part.scrollTop] = own.slice(1);
      }
      const again = same && [...document.querySelectorAll("[aria-label], a[href]")].find(
        (one) => one.getAttribute("aria-label") === same || one.getAttribute("href") === same);
      if (again) again.focus({ preventScroll: true });
      scrollTo({ left: x, top: y, behavior: "instant" });
    };
  }

  // A live page asks its own server whether it has changed, as long as somebody sees it.
  let version = null;
  function say(text) {
    const state = document.createElement("p");
    state.className = "state";
    state.textContent = text;
    document.querySelector("header").append(state);
  }
  async function refresh() {
    let answer;
    try {
      answer = await fetch("/", { headers: { "If-None-Match": version }, cache: "no-store" });
    } catch {
      say("This page is no longer refreshed: its server has ended. The terminal where it ran says why.");
      return false;
    }
    if (!answer.ok) return true; // 304: it has not changed
    const newer = new DOMParser().parseFromString(await answer.text(), "text/html");
    const restore = keep();
    panels.filter((panel) => panel.drawn).forEach((panel) => Plotly.purge(panel.plot));
    hover.clear();
    waiting.length = 0;
    document.getElementById("page").replaceWith(newer.getElementById("page"));
    begin();
    restore();
    version = answer.headers.get("ETag");
    return !("ended" in newer.body.dataset);
  }
  async function follow() {
    if (document.hidden || await refresh()) setTimeout(follow, 1000 * Number(document.body.dataset.live));
  }
  if (document.body.dataset.live) {
    version = document.body.dataset.version;
    setTimeout(follow, 1000 * Number(document.body.dataset.live));
  }
})();

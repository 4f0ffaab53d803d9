(function () {
  "use strict";
  var root = document.documentElement;
  var said = document.getElementById("said");
  var figures = [];
  var hiddenArms = new Set();

  // ---- theme
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var themeButton = document.getElementById("theme");
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  }
  function themed() {
    themeButton.textContent = isDark() ? "Light mode" : "Dark mode";
    figures.forEach(function (figure) { if (figure.drawn) draw(figure); });
  }
  themeButton.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("tlx-theme", root.dataset.theme); } catch (error) { /* not kept */ }
    themed();
  });
  dark.addEventListener("change", themed);

  // ---- tables
  function compare(a, b, turn) {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (typeof a === "number" && typeof b === "number") return turn * (a - b);
    return turn * String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  function keyOf(row, column, numeric) {
    var text = row.cells[column].dataset.v;
    if (text === undefined) return null;
    return numeric ? Number(text) : text;
  }
  function sorts(table, heads, head) {
    var column = heads.indexOf(head);
    var numeric = head.classList.contains("right");
    var next = head.getAttribute("aria-sort");
    next = next === "none" ? (numeric ? "descending" : "ascending")
      : next === "ascending" ? "descending" : "ascending";
    heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
    head.setAttribute("aria-sort", next);
    var body = table.tBodies[0];
    var keyed = Array.from(body.rows, function (row) { return [keyOf(row, column, numeric), row]; });
    keyed.sort(function (a, b) { return compare(a[0], b[0], next === "ascending" ? 1 : -1); });
    body.append.apply(body, keyed.map(function (pair) { return pair[1]; }));
    said.textContent = "Sorted by " + head.textContent.trim() + ", " + next;
  }
  function filters(listing, input) {
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    var rows = listing.querySelector("tbody").rows;
    var shown = 0;
    for (var row of rows) {
      if (row.seek === undefined) row.seek = row.textContent.toLowerCase();
      row.hidden = !words.every(function (word) { return row.seek.includes(word); });
      shown += row.hidden ? 0 : 1;
    }
    listing.querySelector(".count").textContent = words.length
      ? shown + " of " + rows.length + " rows" : rows.length + " rows";
  }
  document.querySelectorAll("[data-listing]").forEach(function (listing) {
    var table = listing.querySelector("table");
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head) {
      head.firstElementChild.addEventListener("click", function () { sorts(table, heads, head); });
    });
    var input = listing.querySelector("input");
    if (!input) return;
    input.addEventListener("input", function () { filters(listing, input); });
    input.addEventListener("keydown", function (event) {
      if (event.key === "Escape" && input.value) { input.value = ""; filters(listing, input); }
    });
  });

  // ---- copying
  function copied(button, text) {
    function done() { said.textContent = "Copied"; button.textContent = "Copied"; }
    function byHand() {
      var range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, byHand);
    else byHand();
    setTimeout(function () { button.textContent = "Copy"; }, 2000);
  }
  document.addEventListener("click", function (event) {
    var button = event.target.closest(".copy");
    if (button) copied(button, button.previousElementSibling.textContent);
  });

  // ---- figures
  var library = null;
  async function unpack() {
    var packed = document.getElementById("plotly");
    var bytes = Uint8Array.from(atob(packed.textContent), function (c) { return c.charCodeAt(0); });
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    var script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    packed.remove();
    return window.Plotly;
  }
  function plotly() {
    if (!library) {
      library = window.DecompressionStream ? unpack()
        : Promise.reject(new Error("this browser is too old to unpack the figures"));
    }
    return library;
  }

  function css(name) { return getComputedStyle(root).getPropertyValue("--" + name).trim(); }
  function faded(colour, opacity) {
    var n = parseInt(colour.slice(1), 16);
    return "rgba(" + [n >> 16, (n >> 8) & 255, n & 255, opacity].join(",") + ")";
  }
  var SCALES = {
    light: ["#f1f6fb", "#cfe1f2", "#9cc6e6", "#3f86bf", "#08376b"],
    dark: ["#17222e", "#1d466b", "#2f77ad", "#6bb1e3", "#d4ebff"],
  };
  var LINES = {
    light: ["#d8b500", "#a3a04f", "#75886f", "#4d6f86", "#2c5493", "#00204d"],
    dark: ["#2e5c99", "#5a7690", "#84907f", "#b0ac68", "#d9c94a", "#ffea46"],
  };
  function colour(token) {
    var found = /^@([a-z]+)(\d*)(?:\/([\d.]+))?$/.exec(token);
    if (!found) return token;
    var shade = isDark() ? "dark" : "light";
    if (found[1] === "scale") {
      return SCALES[shade].map(function (c, i, all) { return [i / (all.length - 1), c]; });
    }
    var plain = found[1] === "arm" ? css("c" + found[2])
      : found[1] === "line" ? LINES[shade][Number(found[2])] : css(found[1]);
    return found[3] ? faded(plain, Number(found[3])) : plain;
  }
  function coloured(value, key) {
    if (Array.isArray(value)) return value.map(function (item) { return coloured(item, key); });
    if (value && typeof value === "object") {
      var made = {};
      Object.keys(value).forEach(function (name) { made[name] = coloured(value[name], name); });
      return made;
    }
    return typeof value === "string" && /color/.test(key || "") ? colour(value) : value;
  }
  function unescaped(text) {
    var holder = document.createElement("textarea");
    holder.innerHTML = text;
    return holder.value;
  }
  function escaped(text) {
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }
  function shortened(text, most) {
    var head = Math.floor(most / 2);
    return text.length <= most ? text : text.slice(0, head) + "…" + text.slice(head + 1 - most);
  }
  function wrapped(text, most) {
    var lines = [];
    while (text.length > most) {
      var start = text.slice(0, most);
      var found = /^.{6,}\s/.exec(start) || /^.{6,}[,_\-\/=]/.exec(start);
      var end = found ? found[0].length : most;
      lines.push(escaped(text.slice(0, end).trim()));
      text = text.slice(end).trim();
    }
    return lines.concat(escaped(text)).join("<br>");
  }
  function narrowed(texts, most) {  // two lines, more only where labels would be alike
    var plain = texts.map(unescaped);
    var alike = plain.length - new Set(plain).size;
    var longest = Math.max.apply(null, plain.map(function (text) { return text.length; }));
    for (var room = 2 * most - 2; ; room += 2) {
      var found = plain.map(function (text) { return shortened(text, room); });
      if (room >= longest || found.length - new Set(found).size === alike) break;
    }
    return found.map(function (text) { return wrapped(text, most); });
  }
  function axis(given, narrow) {
    var made = Object.assign({
      gridcolor: css("grid"), zerolinecolor: css("soft"), linecolor: css("line"),
      tickcolor: css("line"), zeroline: false, automargin: true, tickfont: { size: narrow ? 11 : 12 },
    }, given);
    if (narrow && made.ticktext) {
      made.ticktext = narrowed(made.ticktext, 18);
    }
    if (made.title) made.title = Object.assign({ standoff: 10, font: { size: narrow ? 12 : 13 } }, made.title);
    return made;
  }
  function laidOut(given, narrow) {
    var layout = Object.assign({}, given, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13, color: css("text") },
      margin: Object.assign({ l: 48, r: narrow ? 10 : 20, t: 12, b: 48 }, given.margin),
      hoverlabel: { bgcolor: css("panel"), bordercolor: css("line"), font: { color: css("text") }, align: "left" },
      hovermode: given.hovermode || "closest", showlegend: false,
      dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    });
    Object.keys(layout).forEach(function (key) {
      if (/^[xy]axis/.test(key)) layout[key] = axis(layout[key], narrow);
    });
    ["xaxis", "yaxis"].forEach(function (key) { if (!layout[key]) layout[key] = axis({}, narrow); });
    return layout;
  }
  function chosen(figure) {
    var key = figure.selects.map(function (select) { return select.value; });
    function fits(variant, depth) {
      for (var i = 0; i < depth; i += 1) if (variant.key[i] !== key[i]) return false;
      return true;
    }
    for (var depth = key.length; depth > 0; depth -= 1) {
      var found = figure.data.variants.find(function (variant) { return fits(variant, depth); });
      if (found) return found;
    }
    return figure.data.variants[0];
  }
  function draw(figure) {
    return plotly().then(function (Plotly) {
      var variant = chosen(figure);
      var narrow = figure.place.clientWidth < 520;
      var traces = coloured(variant.data).map(function (trace) {
        if (trace.texttemplate && trace.z) {
          var room = (figure.place.clientWidth - 150) / trace.z[0].length;
          if (room < (trace.text ? 15 : 30)) delete trace.texttemplate;
        }
        if (trace.meta && trace.meta.arm !== undefined) trace.visible = !hiddenArms.has(trace.meta.arm);
        return trace;
      });
      figure.more.textContent = variant.caption || "";
      figure.drawn = true;
      return Plotly.react(figure.place, traces, laidOut(coloured(variant.layout), narrow), {
        responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
        modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
      });
    }).catch(function (error) {
      figure.place.textContent = "";
      var note = document.createElement("p");
      note.className = "failed";
      note.textContent = "The figure cannot be drawn: " + error.message + ". The tables hold its numbers.";
      figure.place.append(note);
    });
  }
  function selects(figure) {
    return figure.data.dims.map(function (name, place) {
      var label = document.createElement("label");
      var select = document.createElement("select");
      var choices = new Set(figure.data.variants.map(function (variant) { return variant.key[place]; }));
      choices.forEach(function (choice) { select.add(new Option(choice, choice)); });
      select.addEventListener("change", function () { draw(figure); });
      label.append(name, select);
      if (choices.size > 1) figure.controls.append(label);
      return select;
    });
  }
  var seen = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (!entry.isIntersecting) return;
      seen.unobserve(entry.target);
      draw(figures.find(function (figure) { return figure.element === entry.target; }));
    });
  }, { rootMargin: "600px" });
  document.querySelectorAll("[data-figure]").forEach(function (element) {
    var figure = {
      element: element, drawn: false,
      data: JSON.parse(element.querySelector("script").textContent),
      controls: element.querySelector(".controls"),
      place: element.querySelector(".draw"),
      more: element.querySelector(".more"),
    };
    figure.selects = selects(figure);
    figures.push(figure);
    seen.observe(element);
  });
  var chips = Array.from(document.querySelectorAll(".chip"));
  chips.forEach(function (chip) {
    chip.addEventListener("click", function () {
      var arm = chip.dataset.arm;
      if (!hiddenArms.delete(arm)) hiddenArms.add(arm);
      chips.forEach(function (other) {
        if (other.dataset.arm === arm) other.setAttribute("aria-pressed", String(!hiddenArms.has(arm)));
      });
      figures.forEach(function (figure) { if (figure.drawn) draw(figure); });
    });
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (item) { item.open = true; });
  });
  themed();
})();

(function () {
  "use strict";
  try {
    var kept = localStorage.getItem("tlx-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch (error) { /* a page from a file may keep nothing */ }
})();

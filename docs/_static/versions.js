// Fills the switch from ../versions.js, which lists the versions that were built beside this one. Without that file the
// switch shows this version only.
(() => {
  const field = document.getElementById("version-switch");
  const { version, page, root } = field.dataset;
  const known = window.IQAMETRICS_VERSIONS ?? [];
  if (known.length > 1) {
    field.replaceChildren(...known.map((entry) => new Option(entry.version, entry.version, false, entry.version === version)));
  } else {
    field.disabled = true;
  }
  field.addEventListener("change", () => {
    const chosen = known.find((entry) => entry.version === field.value);
    const target = chosen.pages.includes(page) ? page : "index.html";
    location.href = `${root}../${chosen.version}/${target}`;
  });
})();

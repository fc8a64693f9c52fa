// Returns what is wrong with the page for a person who sees badly or not at all, who uses the
// keyboard alone, or who has a small screen.
(() => {
  const problems = [];
  const tell = (e, what) => problems.push(`${what}: ${e.outerHTML.slice(0, 120)}`);
  const dialog = document.querySelector("dialog[open]");
  const all = [...(dialog ?? document.body).querySelectorAll("*")].filter((e) =>
    e.checkVisibility({ visibilityProperty: true }) && !e.closest("[aria-hidden=true]") && !e.closest(".spoken"));

  if (!document.documentElement.lang) problems.push("the page has no language");
  if (!document.title) problems.push("the page has no title");
  if (document.documentElement.scrollWidth > innerWidth) problems.push(`it is ${document.documentElement.scrollWidth} pixels wide on a screen of ${innerWidth}`);

  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => problems.push(`the ID ${id} is there twice`));
  for (const e of document.querySelectorAll("[aria-labelledby]"))
    if (e.checkVisibility() && !document.getElementById(e.getAttribute("aria-labelledby"))?.textContent) tell(e, "it is labelled by nothing");

  let level = dialog ? 1 : 0;
  for (const e of all) {
    const heading = /^H([1-6])$/.exec(e.tagName);
    if (heading) {
      if (Number(heading[1]) > level + 1) tell(e, "a heading skips a level");
      level = Number(heading[1]);
    }
    const named = e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.[0]?.textContent.trim();
    if (e.matches("button, a, input, select, textarea, [role=img], [role=region]") && !named) tell(e, "it has no name");
    if (e.matches("input") && !e.labels.length) tell(e, "it has no label");
    if (e.matches("button, input") && Math.min(e.offsetWidth, e.offsetHeight) < 24) tell(e, "it is too small to hit");
    if (e.matches("button, input") && e.tabIndex < 0) tell(e, "no key leads to it");
    const scrolls = e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(e).overflowY);
    if (scrolls && e.tabIndex < 0 && !e.querySelector("button") && e !== dialog) tell(e, "no key scrolls it");
  }

  // Contrast, as WCAG 2.2 has it in 1.4.3.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  for (const e of all) {
    if (e.closest("svg") || ![...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const [one, other] = [luminance(rgba(style.color)), luminance(behind(e))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) tell(e, `its contrast is ${ratio.toFixed(2)}`);
  }
  return problems;
})()

"use strict";
// Sorting and filtering of tables, and the browser of images. Without it, the page shows everything as it stands.
(() => {
  const all = (selector, place = document) => Array.from(place.querySelectorAll(selector));
  const made = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // numbers before text; a missing figure is last in both directions
  function compared(one, other, sign) {
    const [a, b] = [one, other].map((cell) => cell.dataset.value);
    const [x, y] = [a, b].map((value) => (value.trim() === "" ? NaN : Number(value)));
    const missing = [a, b].map((value) => value === "–");
    if (missing[0] || missing[1]) return missing[0] - missing[1];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return sign * a.localeCompare(b, "en", { numeric: true });
  }

  function sortable(table) {
    const heads = all("thead th", table);
    const body = table.tBodies[0];
    heads.forEach((head, at) => {
      const button = made("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const figures = head.classList.contains("figure");
        const before = head.getAttribute("aria-sort");
        const first = figures ? "descending" : "ascending"; // the largest figure is what one looks for
        const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
        heads.forEach((one) => one.setAttribute("aria-sort", one === head ? order : "none"));
        const sign = order === "ascending" ? 1 : -1;
        const rows = Array.from(body.rows).sort((one, other) => compared(one.cells[at], other.cells[at], sign));
        body.append(...rows);
      });
    });
    if (body.rows.length > 3) filterable(table, body);
  }

  function filterable(table, body) {
    const label = made("label", "Filter rows ", { class: "filter" });
    const input = made("input", "", { type: "search", autocomplete: "off", spellcheck: "false" });
    const status = made("span", "", { role: "status" });
    label.append(input);
    table.parentElement.before(label, status);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = words.length ? `${shown} of ${body.rows.length} rows` : "";
    });
  }

  function browser(form) {
    const pictures = all(".picture");
    const filters = all("select[data-filter]", form);
    const order = form.querySelector("select[data-order]");
    const status = form.querySelector(".count");
    function show() {
      let shown = 0;
      for (const picture of pictures) {
        picture.hidden = filters.some((one) => one.value !== "" && picture.dataset[one.dataset.filter] !== one.value);
        shown += picture.hidden ? 0 : 1;
      }
      for (const gallery of all(".gallery")) gallery.hidden = all(".picture", gallery).every((one) => one.hidden);
      status.textContent = `${shown} of ${pictures.length} images`;
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    filters.forEach((one) => one.addEventListener("change", show));
    order.addEventListener("change", () => {
      const sign = order.value === "least" ? 1 : -1;
      for (const list of all(".pictures")) {
        list.append(...Array.from(list.children).sort((a, b) => sign * (a.dataset.rank - b.dataset.rank)));
      }
    });
    form.hidden = false;
    show();
  }

  all("table[data-sortable]").forEach(sortable);
  all("form.filters").forEach(browser);

  // everything is printed, also what is folded
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((one) => (one.open = true));
  });
  addEventListener("afterprint", () => folded.forEach((one) => (one.open = false)));
})();

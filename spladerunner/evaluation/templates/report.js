"use strict";
// Shows the queries whose text, tokens and documents hold every word of the search.
const filter = document.querySelector(".filter");
filter.hidden = false;
const queries = [...document.querySelectorAll("details.query")].map((element) => ({
  element,
  kind: element.dataset.kind,
  text: element.textContent.toLowerCase(),
}));
const show = () => {
  const words = filter.querySelector("[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = filter.querySelector("[name=kind]:checked").value;
  let shown = 0;
  for (const query of queries) {
    const matches = (kind === "all" || kind === query.kind) && words.every((word) => query.text.includes(word));
    query.element.hidden = !matches;
    shown += matches;
  }
  filter.querySelector("output").textContent = `${shown} of ${queries.length}`;
  document.querySelector(".none").hidden = shown > 0;
};
filter.addEventListener("input", show);
filter.addEventListener("submit", (event) => event.preventDefault());
show();

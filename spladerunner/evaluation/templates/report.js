"use strict";
// Lists the queries on which two chosen systems differ: PAGE at once, those that hold every word of the search.
const PAGE = 20;
const TOKENS = 8;
const { measure, systems, scores, pairs, queries } = JSON.parse(document.querySelector("#data").textContent);
const [pair, chart, filter, list, none, more] = [
  ".pair", ".differences", ".filter", ".list", ".none", ".more",
].map((name) => document.querySelector(name));
const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const rank = (value) => (value === null ? "not retrieved" : `rank ${value.toLocaleString("en")}`);

// The documents that a query's details show: the better system's best relevant one, the other's best nonrelevant one.
const documents = (query, first, second) => {
  const better = query.scores[first] > query.scores[second];
  const [best, worst] = better ? [first, second] : [second, first];
  return [query.relevant[best] ?? query.relevant[worst], query.nonrelevant[worst]];
};
const tokens = (query, system, shown) =>
  query.contributions[system]
    .map(([token, own, shares]) => {
      const [relevant, nonrelevant] = shown.map((at) => (at === null ? 0 : shares[at]));
      return { token, own, shares: [relevant, nonrelevant], margin: relevant - nonrelevant };
    })
    .filter(({ shares }) => shares[0] || shares[1])
    .sort((a, b) => Math.abs(b.margin) - Math.abs(a.margin))
    .slice(0, TOKENS);

const documentBox = (kind, document, chosen) =>
  element(
    "article",
    {},
    element("h3", {}, `${kind}: ${document.id}`),
    element("p", { className: "muted" }, chosen.map((at) => `${systems[at]}: ${rank(document.ranks[at])}`).join("; ")),
    element("p", {}, document.text),
  );
const tokenTable = (name, rows) => {
  const widest = Math.max(...rows.map((row) => Math.abs(row.margin))) || 1;
  const body = rows.map((row) => {
    const bar = element("i", { className: row.margin > 0 ? "better" : "worse" });
    bar.style.width = `${((50 * Math.abs(row.margin)) / widest).toFixed(1)}%`;
    const name = element("th", { scope: "row" }, (row.own ? "" : "+ ") + row.token);
    const title = row.shares.map((share) => share.toFixed(2)).join(" minus ");
    return element("tr", {}, name, element("td", {}, element("div", { className: "margin" }, bar)),
      element("td", { title }, signed(row.margin, 2)));
  });
  const nothing = element("tr", {}, element("td", { className: "muted" }, "neither holds a token of the query"));
  return element("table", { className: "tokens" },
    element("caption", {}, `${name}: score of the relevant document minus the other’s`),
    element("tbody", {}, ...(body.length ? body : [nothing])));
};
const details = ({ query, difference, chosen, kind }) => {
  const shown = documents(query, ...chosen);
  const inside = element("div", { className: "inside" });
  const made = element("details", { className: "query" },
    element("summary", {},
      element("b", { className: kind }, signed(difference, 3)),
      element("span", { className: "text" }, query.text),
      element("span", { className: "scores" }, chosen.map((at) => query.scores[at].toFixed(3)).join(" against "))),
    inside);
  made.addEventListener("toggle", () => {
    if (inside.childElementCount) return;
    for (const [at, kind] of ["Relevant", "Not relevant"].entries())
      if (shown[at] !== null) inside.append(documentBox(kind, query.documents[shown[at]], chosen));
    for (const at of chosen)
      if (query.contributions[at].length) inside.append(tokenTable(systems[at], tokens(query, at, shown)));
  });
  return made;
};

let differing = [];
let matching = [];
const choose = () => {
  const chosen = [Number(pair.first.value), Number(pair.second.value)];
  const [first, second] = chosen;
  differing = queries
    .map((query) => ({ query, chosen, difference: query.scores[first] - query.scores[second] }))
    .filter(({ difference }) => difference !== 0)
    .sort((a, b) => b.difference - a.difference)
    .map((row) => {
      const { query } = row;
      const shown = documents(query, first, second);
      const words = [query.text];
      for (const at of shown) if (at !== null) words.push(query.documents[at].id, query.documents[at].text);
      for (const at of chosen) words.push(...tokens(query, at, shown).map(({ token }) => token));
      return { ...row, kind: row.difference > 0 ? "better" : "worse", words: words.join(" ").toLowerCase() };
    });
  draw(first, second);
  search();
};
// A bar for each query, in descending order; the summary is of the later system minus the earlier one.
const draw = (first, second) => {
  const summary = pairs[`${Math.max(first, second)}-${Math.min(first, second)}`] ?? "A system and itself.";
  const values = scores[first].map((score, at) => score - scores[second][at]).sort((a, b) => b - a);
  const most = Math.max(...values.map(Math.abs), 1e-9);
  const area = (bars) => `M0 0${bars.map((bar, at) => `V${(-bar / most).toFixed(4)}H${at + 1}`).join("")}V0Z`;
  chart.querySelector("svg").setAttribute("viewBox", `0 -1 ${values.length} 2`);
  chart.querySelector(".better").setAttribute("d", area(values.map((value) => Math.max(value, 0))));
  chart.querySelector(".worse").setAttribute("d", area(values.map((value) => Math.min(value, 0))));
  const [top, , bottom] = chart.querySelectorAll("span");
  top.textContent = signed(most, 2);
  bottom.textContent = signed(-most, 2);
  chart.ariaLabel = `Difference in ${measure} by query: ${systems[first]} minus ${systems[second]}`;
  document.querySelector(".compared").textContent = summary;
};
const search = () => {
  const words = filter.querySelector("[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = filter.querySelector("[name=kind]:checked").value;
  matching = differing.filter((row) => (kind === "all" || kind === row.kind) && words.every((w) => row.words.includes(w)));
  list.replaceChildren();
  filter.querySelector("output").textContent = `${matching.length} of ${differing.length}`;
  none.hidden = matching.length > 0;
  show();
};
const show = () => {
  const shown = list.childElementCount;
  list.append(...matching.slice(shown, shown + PAGE).map(details));
  const left = matching.length - list.childElementCount;
  more.hidden = left === 0;
  more.textContent = `Show ${Math.min(PAGE, left)} more`;
};
for (const part of [pair, document.querySelector(".compared"), chart, filter]) part.hidden = false;
pair.addEventListener("change", choose);
filter.addEventListener("input", search);
filter.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", show);
choose();

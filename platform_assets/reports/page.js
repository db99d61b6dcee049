const variable = /^var\((--[\w-]+)\)$/;

// Plotly knows no CSS variables: they are looked up when a chart is drawn.
function themed(value) {
  if (typeof value === "string") {
    const name = value.match(variable);
    return name ? getComputedStyle(document.documentElement).getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map(themed);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, themed(inner)]));
}

function draw() {
  for (const node of document.querySelectorAll(".chart")) {
    const figure = themed(JSON.parse(node.closest("figure").querySelector("script").textContent));
    figure.layout.width = node.clientWidth;
    Plotly.react(node, figure.data, figure.layout, { displayModeBar: false });
  }
}

draw();
addEventListener("resize", draw);
for (const media of ["print", "(prefers-color-scheme: dark)"]) matchMedia(media).addEventListener("change", draw);

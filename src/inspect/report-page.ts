/** What is the same in every report: its style, and the script that shows the weights below the pointer or the keys. */
import { mapStyle, palette } from './heatmap-svg.js';

/** The page's style: light or dark as the reader prefers, maps side by side as far as there is room. */
export const pageStyle: string = `${palette}
${mapStyle}
body{margin:0;padding:24px;background:var(--paper);color:var(--text);font:15px/1.5 system-ui,sans-serif}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:28px 0 2px}p{color:var(--faint);margin:0 0 12px}
.maps{display:flex;flex-wrap:wrap;gap:20px}
figure{margin:0;max-width:100%;overflow-x:auto}
figcaption{font-size:13px}figcaption small{display:block;color:var(--faint);font-size:12px}
output{font:12px ui-monospace,Menlo,Consolas,monospace;min-height:1.5em;display:block}
svg{display:block}svg:focus-visible{outline:2px solid var(--ink)}
.here{fill:none;stroke:var(--wrong);stroke-width:2;vector-effect:non-scaling-stroke;pointer-events:none}
#tip{position:fixed;padding:4px 8px;border:1px solid var(--frame);border-radius:6px;background:var(--paper);
color:var(--text);font:12px ui-monospace,Menlo,Consolas,monospace;pointer-events:none;max-width:60vw}`;

/**
 * Reads the weights from the page's data (float32, little-endian, base64). A cell that is pointed at, or reached by the
 * arrow keys, is marked in all maps of its section, whose captions then give its weights; text only ever goes to
 * textContent.
 */
export const pageScript: string = `'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const tip = document.getElementById('tip');
const floats = (text) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
};
const show = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value));
for (const [index, section] of data.sections.entries()) {
  const { rows, columns, queries, keys } = section;
  const maps = [...document.querySelectorAll('[data-section="' + index + '"]')].map((svg, at) => ({
    svg, values: floats(section.values[at]), output: svg.parentElement.querySelector('output'),
    area: svg.querySelector('.map'), here: svg.querySelector('.here'),
  }));
  let place = [0, 0];
  const leave = () => {
    tip.hidden = true;
    for (const { here, output } of maps) { here.setAttribute('visibility', 'hidden'); output.textContent = ''; }
  };
  const enter = (map, row, column, x, y) => {
    place = [row, column];
    for (const { here, output, values } of maps) {
      here.setAttribute('x', column);
      here.setAttribute('y', row);
      here.setAttribute('visibility', 'visible');
      output.textContent = show(values[row * columns + column]);
    }
    tip.textContent = queries[row] + ' → ' + keys[column] + ': ' + show(map.values[row * columns + column]);
    tip.hidden = false;
    tip.style.left = Math.min(x + 14, innerWidth - tip.offsetWidth - 4) + 'px';
    tip.style.top = Math.min(y + 14, innerHeight - tip.offsetHeight - 4) + 'px';
  };
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  for (const map of maps) {
    const box = () => map.area.getBoundingClientRect();
    const reach = (row, column) => {
      const { left, top, width, height } = box();
      enter(map, row, column, left + ((column + 0.5) * width) / columns, top + ((row + 0.5) * height) / rows);
    };
    const point = (event) => {
      const { left, top, width, height } = box();
      const column = Math.floor(((event.clientX - left) / width) * columns);
      const row = Math.floor(((event.clientY - top) / height) * rows);
      if (row < 0 || row >= rows || column < 0 || column >= columns) leave();
      else enter(map, row, column, event.clientX, event.clientY);
    };
    for (const type of ['pointermove', 'pointerdown']) map.svg.addEventListener(type, point);
    map.svg.addEventListener('pointerleave', leave);
    map.svg.addEventListener('focus', () => { if (map.svg.matches(':focus-visible')) reach(...place); });
    map.svg.addEventListener('blur', leave);
    map.svg.addEventListener('keydown', (event) => {
      const move = moves[event.key];
      if (event.key === 'Escape') leave();
      if (!move) return;
      event.preventDefault();
      const within = (size, at) => Math.max(0, Math.min(size - 1, at));
      reach(within(rows, place[0] + move[0]), within(columns, place[1] + move[1]));
    });
  }
}`;

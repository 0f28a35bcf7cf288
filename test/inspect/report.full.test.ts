// The report in headless Chromium: cells are painted, weights appear below the pointer and the keys, dark mode changes
// colours, and no label becomes markup.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect, tensor } from 'fovea';
import { type Browser, launch, type Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { randomRows } from './attend.js';

const places = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'].map(
  (name) => `/usr/bin/${name}`,
);
const chromium = [process.env['FOVEA_CHROMIUM'], ...places].find((path) => path !== undefined && existsSync(path));
if (chromium === undefined)
  console.log('report.full.test.ts is skipped: no Chromium (`apt install chromium`, or its path in FOVEA_CHROMIUM)');

const maps = [1, 2].map((seed) => randomRows(6, 8, seed));
const evil = '</script><img src=x onerror="globalThis.broken=true">';
const queries = ['the', 'cat', evil, 'on', 'the', 'mat'];
const keys = ['le', 'chat', 'est', 'assis', 'sur', 'le', 'tapis', '.'];

// Not every machine has it. What the report and the SVG say is tested everywhere, as text, in drawing.test.ts.
describe.skipIf(chromium === undefined)('the report in Chromium', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fovea-report-'));
  const file = join(folder, 'attention.html');
  const requests: string[] = [];
  const failures: string[] = [];
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    const html = await inspect.htmlReport([{ weights: tensor(maps), title: evil, queries, keys }]);
    writeFileSync(file, html);
    writeFileSync(join(folder, 'attention.svg'), await inspect.heatmapSvg(tensor(maps), { queries, keys }));
    // A container lets Chromium make no namespaces, which its sandbox needs; it opens nothing but the file.
    browser = await launch({ executablePath: chromium!, args: ['--no-sandbox', '--disable-gpu'] });
    page = await browser.newPage();
    page.on('request', (request) => requests.push(request.url()));
    page.on('pageerror', (error) => failures.push(String(error)));
    page.on('console', (message) => failures.push(message.text()));
    await page.setViewport({ width: 1200, height: 800 });
    await page.goto(pathToFileURL(file).href);
  });
  afterAll(async () => {
    await browser.close();
    rmSync(folder, { recursive: true });
  });

  /** What an expression gives in the page; as text, since these tests are compiled without the types of a browser. */
  const inPage = <T>(expression: string, where: Page = page): Promise<T> => where.evaluate(expression) as Promise<T>;
  /** Where the middle of a cell is on the screen. */
  async function middle(head: number, row: number, column: number): Promise<{ x: number; y: number }> {
    const { left, top, width, height } = await inPage<Record<'left' | 'top' | 'width' | 'height', number>>(
      `document.querySelectorAll('.map')[${head}].getBoundingClientRect().toJSON()`,
    );
    return { x: left + ((column + 0.5) * width) / 8, y: top + ((row + 0.5) * height) / 6 };
  }
  /** The colour on the screen: red, green, blue. */
  async function colour(head: number, row: number, column: number): Promise<number[]> {
    const { x, y } = await middle(head, row, column);
    const clip = { x: Math.floor(x), y: Math.floor(y), width: 1, height: 1 };
    const png = await page.screenshot({ clip, encoding: 'base64' });
    const viewer = await browser.newPage();
    const pixel = await inPage<number[]>(
      `(async () => {
        const image = new Image();
        image.src = 'data:image/png;base64,${png}';
        await image.decode();
        const context = document.createElement('canvas').getContext('2d');
        context.drawImage(image, 0, 0);
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
      })()`,
      viewer,
    );
    await viewer.close();
    return pixel;
  }
  const shade = async (head: number, row: number, column: number): Promise<number> =>
    (await colour(head, row, column)).reduce((a, b) => a + b, 0);
  const tip = (): Promise<string | null> =>
    inPage("document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent");
  const captions = (): Promise<string[]> =>
    inPage("[...document.querySelectorAll('output')].map(({ textContent }) => textContent)");
  const show = (weight: number): string => String(Number(Math.fround(weight).toPrecision(4)));

  test('paints cells: the larger the weight, the darker', async () => {
    for (const [head, map] of maps.entries()) {
      const cells = map
        .flatMap((row, i) => row.map((weight, j) => ({ weight, i, j })))
        .sort((a, b) => a.weight - b.weight);
      const [least, most] = [cells[0]!, cells.at(-1)!];
      // oxlint-disable-next-line eslint/no-await-in-loop -- one page
      expect(await shade(head, most.i, most.j)).toBeLessThan((await shade(head, least.i, least.j)) - 100);
    }
  });

  test('shows the weight below the pointer, in the captions of all heads', async () => {
    const at = await middle(1, 2, 3);
    await page.mouse.move(at.x, at.y);
    expect(await tip()).toBe(`${evil} → assis: ${show(maps[1]![2]![3]!)}`);
    expect(await captions()).toEqual(maps.map((map) => show(map[2]![3]!)));
    await page.mouse.move(2, 2);
    expect(await tip()).toBeNull();
    expect(await captions()).toEqual(['', '']);
  });

  test('shows the weight that the arrow keys reach', async () => {
    await page.keyboard.press('Tab');
    // oxlint-disable-next-line eslint/no-await-in-loop -- one key after the other
    for (const key of ['ArrowRight', 'ArrowDown', 'ArrowDown', 'ArrowUp'] as const) await page.keyboard.press(key);
    // From where the pointer was last: right, down, down and up again.
    expect(await tip()).toBe(`on → sur: ${show(maps[0]![3]![4]!)}`);
    await page.keyboard.press('Escape');
    expect(await tip()).toBeNull();
  });

  test('follows the preferred colours', async () => {
    const background = (): Promise<string> => inPage('getComputedStyle(document.body).backgroundColor');
    const [light, lightCell] = [await background(), await colour(0, 0, 0)];
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
    const [dark, darkCell] = [await background(), await colour(0, 0, 0)];
    expect(light).toBe('rgb(255, 255, 255)');
    expect(dark).toBe('rgb(13, 17, 23)');
    expect(darkCell).not.toEqual(lightCell);
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }]);
    expect(await background()).toBe(light);
  });

  test('has titles, no markup from labels, no request but the file, and no error', async () => {
    const found = await inPage<{ names: string[] }>(`({
      names: [...document.querySelectorAll('svg')].map((svg) => svg.getAttribute('aria-label')),
      images: document.images.length,
      scripts: document.scripts.length,
      heading: document.querySelector('h2').textContent,
      broken: 'broken' in globalThis,
    })`);
    expect(found.names.map((name) => name.slice(0, 6))).toEqual(['Head 0', 'Head 1']);
    expect(found).toMatchObject({ images: 0, scripts: 2, heading: evil, broken: false });
    expect(requests).toEqual([pathToFileURL(file).href]);
    expect(failures).toEqual([]);
  });

  test('the SVG of the same maps is one, in both modes', async () => {
    const svg = await browser.newPage();
    await svg.goto(pathToFileURL(join(folder, 'attention.svg')).href);
    const fills = "['.sheet', '.cells', '.title'].map((name) => getComputedStyle(document.querySelector(name)).fill)";
    const paint = (): Promise<string[]> => inPage(fills, svg);
    expect(await inPage('document.documentElement.tagName', svg)).toBe('svg');
    const light = await paint();
    await svg.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
    const dark = await paint();
    expect(dark.map((colour, i) => colour !== light[i])).toEqual([true, true, true]);
    await svg.close();
  });
});

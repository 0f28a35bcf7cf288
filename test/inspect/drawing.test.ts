// Pictures of attention: what is in them, how large they get, and that labels stay text.
import { inspect, noGrad, randint, randn, tensor } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { list } from '../helpers.js';
import { randomRows, tiny } from './attend.js';

const code = (name: string): unknown => expect.objectContaining({ code: name });
const evil = ['</script><script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '& <!--', '\u0000\n\ud800', "'"];
const words = (count: number): string[] => Array.from({ length: count }, (_, i) => evil[i % evil.length]!);

/** Tags, each closed in order, with entities that XML knows and no character that it does not. */
function expectWellFormed(xml: string): void {
  const open: string[] = [];
  for (const [tag, close, name, self] of xml.matchAll(/<(\/?)([a-zA-Z]+)(?:\s[^<>]*?)?(\/?)>/g)) {
    if (self) continue;
    if (close) expect(open.pop(), tag).toBe(name);
    else open.push(name!);
  }
  expect(open).toEqual([]);
  expect(xml.replace(/&(amp|lt|gt|quot|#39);/g, '')).not.toMatch(/&/);
  // oxlint-disable-next-line eslint/no-control-regex -- they must not be there
  expect(xml).not.toMatch(/[\u0000-\u0008\u000b-\u001f\ufffe\uffff]|\p{Cs}/u);
}

/** Cells of a picture by place, with their opacity. */
function cellsOf(svg: string): Map<string, number> {
  const cells = new Map<string, number>();
  for (const [, opacity, d] of svg.matchAll(/<path fill-opacity="([^"]+)" d="([^"]+)"/g))
    for (const [, x, y] of d!.matchAll(/M(\d+) (\d+)h1v1h-1z/g)) cells.set(`${y} ${x}`, Number(opacity));
  return cells;
}

describe('heatmapSvg', () => {
  test('has a cell for each weight, as opaque as the weight is large', async () => {
    const rows = randomRows(5, 7, 3);
    const svg = await inspect.heatmapSvg(tensor(rows));
    expectWellFormed(svg);
    const most = Math.max(...rows.flat());
    const cells = cellsOf(svg);
    expect(cells.size).toBe(35);
    for (const [i, row] of rows.entries())
      for (const [j, weight] of row.entries())
        expect(Math.abs(cells.get(`${i} ${j}`)! - weight / most)).toBeLessThan(1 / 64);
    const half = cellsOf(await inspect.heatmapSvg(tensor(rows), { max: 2 * most }));
    expect(half.get('0 0')!).toBeCloseTo(cells.get('0 0')! / 2, 1);
  });

  test('heads beside each other, with title and labels that stay text', async () => {
    const maps = tensor([1, 2, 3].map((seed) => randomRows(5, 5, seed)));
    const options = { title: evil[0]!, queries: words(5), keys: words(5), heads: [2, 0], columns: 1 };
    const svg = await inspect.heatmapSvg(maps, options);
    expectWellFormed(svg);
    expect(svg).not.toMatch(/<script|<img/);
    expect([...svg.matchAll(/aria-label="Head (\d)/g)].map(([, head]) => head)).toEqual(['2', '0']);
    expect(svg).toContain('<title>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</title>');
    expect(svg).toContain('>␀␊�</text>');
    expect(svg).toMatch(/@media \(prefers-color-scheme:dark\)/);
    expect(svg.replace('xmlns="http://www.w3.org/2000/svg"', '')).not.toMatch(/https?:|url\(|@import|href/);
  });

  test.each(['max', 'mean'] as const)('shares cells above maxCells: %s', async (pooling) => {
    const [n, m, most] = [11, 7, 4];
    const rows = randomRows(n, m, 8);
    const svg = await inspect.heatmapSvg(tensor(rows), { maxCells: most, pooling });
    const cells = cellsOf(svg);
    // 3 × 2 weights in a cell; the last row of cells has two queries, the last column one key.
    const expected = Array.from({ length: 4 }, (_, i) =>
      Array.from({ length: 4 }, (_unused, j) => {
        const block = rows.slice(3 * i, 3 * i + 3).flatMap((row) => row.slice(2 * j, 2 * j + 2));
        return pooling === 'max' ? Math.max(...block) : block.reduce((a, b) => a + b, 0) / block.length;
      }),
    );
    const largest = Math.max(...expected.flat());
    for (const [i, row] of expected.entries())
      for (const [j, x] of row.entries()) expect(Math.abs(cells.get(`${i} ${j}`)! - x / largest)).toBeLessThan(1 / 64);
    expect(svg).toContain(pooling === 'max' ? 'largest weight ' : 'largest cell ');
    expect(svg).toContain(
      `11 queries × 7 keys; each cell is the ${pooling === 'max' ? 'largest' : 'mean'} of 3 × 2 weights`,
    );
  });

  test('of a capture is that of its weights; long inputs stay small', async () => {
    const model = tiny();
    const observer = inspect.observe(model, { modules: ['transformer.h.0'] });
    noGrad(() => model.forward({ inputIds: randint(0, 40, [2, 10], { dtype: 'int64' }) }));
    const [capture] = observer.captures;
    const options = { batch: 1, heads: [3, 1] };
    const cells = [...cellsOf(await inspect.heatmapSvg(capture!, options)).values()];
    const expected = cellsOf(await inspect.heatmapSvg(capture!.weights().detach(), options)).values();
    expect(compare(cells, [...expected]).difference).toBe(0);
    observer.dispose();
    await expect(inspect.heatmapSvg(capture!)).rejects.toEqual(code('FOVEA_DISPOSED'));
    const long = await inspect.heatmapSvg(noGrad(() => randn([700, 900]).softmax(-1)));
    expect(long.length).toBeLessThan(100_000);
  });

  test('shows what is no number, and no weights at all', async () => {
    const svg = await inspect.heatmapSvg(tensor([[Number.NaN, 0.5, Number.POSITIVE_INFINITY]]));
    expect(svg).toContain('<path class="nan" d="M0 0h1v1h-1zM2 0h1v1h-1z"/>');
    expect(svg).toContain('largest weight 0.5');
    expect(cellsOf(await inspect.heatmapSvg(tensor([[0, 0]]))).size).toBe(0);
  });

  test('refuses what does not fit', async () => {
    const weights = tensor(randomRows(3, 4, 1));
    await expect(inspect.heatmapSvg(weights, { queries: ['a'] })).rejects.toThrow(/expected 3 labels for queries/);
    await expect(inspect.heatmapSvg(weights, { keys: [1, 2, 3, 4] as never })).rejects.toEqual(code('FOVEA_ARGUMENT'));
    await expect(inspect.heatmapSvg(weights, { maxCells: 0 })).rejects.toEqual(code('FOVEA_ARGUMENT'));
    await expect(inspect.heatmapSvg(weights, { max: 0 })).rejects.toEqual(code('FOVEA_ARGUMENT'));
    await expect(inspect.heatmapSvg(weights, { pooling: 'sum' as never })).rejects.toEqual(code('FOVEA_ARGUMENT'));
    await expect(inspect.heatmapSvg(weights, { titel: 'x' } as never)).rejects.toThrow(/titel/);
    await expect(inspect.heatmapSvg(tensor([[-1, 2]]))).rejects.toThrow(/probabilities, not scores/);
    await expect(inspect.heatmapSvg(randn([0, 4]))).rejects.toEqual(code('FOVEA_SHAPE'));
    await expect(inspect.heatmapSvg(randn([1, 1, 1, 2, 2]))).rejects.toEqual(code('FOVEA_ARGUMENT'));
  });
});

/** The data that the report's script reads. */
interface Data {
  sections: { rows: number; columns: number; queries: string[]; keys: string[]; values: string[] }[];
}
const dataOf = (html: string): Data =>
  JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(html)![1]!) as Data;
function floats(base64: string): number[] {
  const bytes = Buffer.from(base64, 'base64');
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

describe('htmlReport', () => {
  test('of an observer: a section for each call, a map for each head, and every weight', async () => {
    const model = tiny();
    using observer = inspect.observe(model);
    const inputIds = randint(0, 40, [1, 9], { dtype: 'int64' });
    noGrad(() => model.forward({ inputIds }));
    const options = {
      title: evil[1]!,
      queries: words(9),
      keys: words(9),
      tokenIds: inputIds.dataSync<BigInt64Array>(),
    };
    const html = await inspect.htmlReport(observer, options);
    expect([...html.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, title]) => title)).toEqual([
      'transformer.h.0.attn',
      'transformer.h.1.attn',
    ]);
    expect([...html.matchAll(/<figcaption>Head (\d) · /g)].map(([, head]) => head).join('')).toBe('01230123');
    const { sections } = dataOf(html);
    for (const [at, { values, queries, rows, columns }] of sections.entries()) {
      expect([rows, columns]).toEqual([9, 9]);
      expect(queries.slice(0, 2)).toEqual(evil.slice(0, 2));
      const weights = list(observer.captures[at]!.weights());
      expect(compare(values.flatMap(floats), weights).difference).toBe(0);
    }
  });

  test('loads nothing, and no label is markup', async () => {
    const weights = tensor([randomRows(5, 5, 1)]);
    const html = await inspect.htmlReport([{ weights, title: evil[0]!, queries: words(5), keys: words(5) }]);
    const scripts = html.match(/<script/g)!;
    expect(scripts).toHaveLength(2);
    expect(html).not.toMatch(/<img|<!--|https?:|url\(|@import|href=|src=[^x]/);
    expect(html).toContain("default-src 'none'");
    expect(html).toContain('<h2>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</h2>');
    expectWellFormed(/<main>.*<\/main>/s.exec(html)![0].replace(/<p>|<\/p>/g, ''));
  });

  test('classes and entropy are of all weights, whatever is drawn', async () => {
    const rows = Array.from({ length: 40 }, (_, i) => Array.from({ length: 40 }, (_unused, j) => Number(i === j)));
    const html = await inspect.htmlReport([{ weights: tensor(rows) }], { maxCells: 8 });
    expect(html).toContain('Head 0 · local<small>entropy 0 nats, largest weight 1</small>');
    expect(html).toContain('<p>40 queries × 40 keys; each cell is the largest of 5 × 5 weights</p>');
    const [section] = dataOf(html).sections;
    expect(section!.queries[1]).toBe('5 … 9');
    expect(floats(section!.values[0]!)).toHaveLength(64);
  });

  test('of long inputs reads all rows, block by block', async () => {
    const [n, m] = [900, 700];
    const weights = noGrad(() => randn([2, n, m]).softmax(-1));
    const html = await inspect.htmlReport([{ weights }], { maxCells: 10 });
    const [{ values }] = dataOf(html).sections as [Data['sections'][0]];
    const expected = weights.reshape([2, 10, 90, 10, 70]).amax([2, 4]);
    expect(compare(values.flatMap(floats), list(expected)).difference).toBe(0);
    const nats = list(inspect.entropy(weights, { reduction: 'mean' }));
    const shown = [...html.matchAll(/entropy ([\d.]+) nats/g)].map(([, entropy]) => Number(entropy));
    expect(compare(shown, nats).difference).toBeLessThan(0.006);
  });

  test('refuses what does not fit', async () => {
    const weights = tensor([randomRows(3, 4, 1), randomRows(3, 4, 2)]);
    await expect(inspect.htmlReport([])).rejects.toThrow(/run the model first/);
    await expect(inspect.htmlReport([{ weights }], { maxMaps: 1 })).rejects.toThrow(/at most 1 maps/);
    await expect(inspect.htmlReport([{ weights }, { weights, keys: ['a'] }])).rejects.toThrow(/sections\[1\].*keys/);
    await expect(inspect.htmlReport([{ weigths: weights } as never])).rejects.toThrow(/weigths/);
    await expect(inspect.htmlReport([undefined as never])).rejects.toEqual(code('FOVEA_ARGUMENT'));
    await expect(inspect.htmlReport([{ weights }], { title: 1 as never })).rejects.toEqual(code('FOVEA_ARGUMENT'));
    const model = tiny();
    const observer = inspect.observe(model);
    await expect(inspect.htmlReport(observer)).rejects.toThrow(/run the model first/);
    observer.dispose();
  });
});

// The gallery's data: an index of all images, and their details in chunks that are unpacked when
// an image of them is looked at.
coordeval.store = (() => {
  const index = coordeval.read("index");
  const packed = coordeval.read("details");
  const thumbnails = coordeval.read("thumbnails");
  const missing = new Set(index.missing);
  const unpacked = new Map();

  const inflate = async (text) => {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  };

  const chunk = (run, number) => {
    const key = `${run}/${number}`;
    if (!unpacked.has(key)) {
      const raw = packed[run].chunks[number];
      unpacked.set(key, packed[run].codec === "json" ? Promise.resolve(raw) : inflate(raw));
    }
    return unpacked.get(key);
  };

  const VERDICTS = {
    r: "right", w: "wrong", i: "ignored", u: "unscored", x: "removed", d: "dropped",
    m: "matched", f: "missed", c: "crowd",
  };
  const KINDS = { b: "bbox_2d", p: "poly", l: "line", "-": null };

  const named = (raw) => {
    const copies = raw.r.c ?? {};
    const drops = raw.r.d ?? {};
    const weak = raw.r.m ?? {};
    const name = (place) => (place === null ? null : raw.n[place]);
    const records = raw.r.s.map((start, place) => {
      const [reason, detail, evidence, slot] = drops[place] ?? [null, null, null, null];
      return {
        index: place,
        start,
        end: raw.r.e[place],
        verdict: VERDICTS[raw.r.v[place]],
        kind: KINDS[raw.r.k[place]],
        desc: name(raw.r.n[place]),
        geometry: raw.r.g[place],
        partner: raw.r.p[place],
        score: raw.r.q ? raw.r.q[place] : null,
        copy: { e: "exact", n: "near" }[copies[place]] ?? null,
        reason, detail, evidence, slot,
        weak: (weak[place] ?? []).map(([at, foreign, note]) => ({ slot: at, foreign, note })),
      };
    });
    const truth = raw.g.n.map((place, row) => ({
      index: row,
      desc: name(place),
      kind: KINDS[raw.g.k[row]],
      geometry: raw.g.g[row],
      verdict: VERDICTS[raw.g.v[row]],
      partner: raw.g.p[row],
    }));
    const loops = (raw.l ?? []).map(
      ([start, onset, end, period, repeats, token, wasted, reachesEnd]) => ({
        start, onset, end, period, repeats, token, wasted, reachesEnd,
      }),
    );
    return {
      text: raw.t, cut: raw.cut ?? 0, records, truth, loops,
      issues: raw.i, conforming: raw.y, finish: raw.f ?? null, tokens: raw.k ?? null,
      error: raw.err ?? null, guard: raw.gd ?? null,
    };
  };

  // The details of one image in one run; null where that run has no line for it.
  const details = async (run, position) => {
    const rows = await chunk(run, Math.floor(position / index.chunk));
    const raw = rows[position % index.chunk];
    return raw === null ? null : named(raw);
  };

  const failures = (run, position) =>
    run.right[position] === null
      ? -1
      : run.wrong[position] + run.missed[position] + run.dropped[position];

  return {
    index,
    details,
    failures,
    thumbnail: (position) => thumbnails[position] ?? null,
    // Why there is no picture: the file is missing, the line names none, or the cap is reached.
    absence: (position) => {
      if (missing.has(position)) return "image file not found";
      if (!index.image[position]) return "the sample names no image";
      return `beyond the ${coordeval.count(index.cap)} embedded images`;
    },
  };
})();

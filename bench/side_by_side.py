#!/usr/bin/env python3
"""Tables of a side-by-side run, and its figures as one JSON file with machine and date.

  python3 side_by_side.py results.jsonl OUT.json
"""
import datetime
import json
import platform
import subprocess
import sys

results, out = sys.argv[1:]
rows = {}
for line in open(results):
    r = json.loads(line)
    rows[r['peer'] + '/' + r['variant'], r['mode'], r['classes'], r['batch']] = r


def command(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


model = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')), '')
caches = ', '.join(' '.join(line.split()) for line in command('lscpu').splitlines() if line.startswith(('L2', 'L3')))
record = {
    'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
    'machine': f'{model}, {command("nproc")} processors, {caches}, {platform.system()} {platform.release()}',
    'commit': command('git', 'rev-parse', '--short', 'HEAD'),
    'device': [line for line in command('bin/yololoss', 'info').splitlines() if line.startswith('cpu')],
    'results': list(rows.values()),
}
with open(out, 'w') as f:
    json.dump(record, f, indent=1)
    f.write('\n')

names = list(dict.fromkeys(key[0] for key in rows))
sizes = sorted({key[2:] for key in rows})
ms = lambda name, mode, size: rows.get((name, mode, *size), {}).get('median_ms')
two = lambda v: '-' if v is None else f'{v:.4f}' if v < 0.1 else f'{v:.2f}' if v < 10 else f'{v:.0f}'
ours = ('yololoss-java', 'yololoss-c')


def table(title, lines):
    print(f'\n{title}\n| | ' + ' | '.join(f'C={c} B={b}' for c, b in sizes) + ' |\n|---|' + '---:|' * len(sizes))
    for name, values in lines:
        print(f'| {name} | ' + ' | '.join(map(two, values)) + ' |')


def ratio(a, b, mode):
    return [x / y if (x := ms(a, mode, s)) and (y := ms(b, mode, s)) else None for s in sizes]


print(record['date'], record['machine'])
print(*record['device'], sep='\n')
for mode in dict.fromkeys(key[1] for key in rows):
    words = {'fwd': 'loss only', 'grad': 'with gradient'}[mode]
    table(f'{words}, median ms', [(n, [ms(n, mode, s) for s in sizes]) for n in names])
    table(f'{words}, largest block median over smallest',
          [(n, [rows.get((n, mode, *s), {}).get('spread') for s in sizes]) for n in names])
    for base in ('yololoss-c/c-dense', 'yololoss-java/dense'):
        table(f'{words}, times the median of {base}',
              [(n, ratio(n, base, mode)) for n in names if not n.startswith(ours) or n.startswith(base[:11])])
    table(f'{words}, share of the floor (the bytes that must move, at the speed of this run)',
          [(n, ratio('yololoss-c/floor', n, mode)) for n in names if n.endswith('/c-dense') or n.endswith('/dense')])
losses = {n: max(r['rel_err'] for k, r in rows.items() if k[0] == n and r.get('rel_err') is not None)
          for n in names if any(k[0] == n and r.get('rel_err') is not None for k, r in rows.items())}
print('\nlargest relative difference of the loss from float64:', ', '.join(f'{n} {v:.1e}' for n, v in losses.items()))

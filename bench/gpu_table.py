#!/usr/bin/env python3
"""Makes a JSON file and a short table of what bench/gpu-check has written up to now.

  python3 bench/gpu_table.py OUT      reads log.txt and clocks.csv of OUT, writes gpu-check.json and gpu-check.txt

The JSON file holds the objects that are lines of the log (cuda_bench.cu, CudaLatency.java and torch_peer.py print
them), each with the step that printed it, and the steps themselves. A line that was cut off is ignored.
"""
import datetime
import json
import os
import sys


def objects_of(path):
    """Returns the steps of a log, and the objects that they printed."""
    steps, objects, step = [], [], None
    with open(path, errors='replace') as log:
        for line in log:
            try:
                one = json.loads(line) if line.startswith('{') else None
            except ValueError:
                one = None
            if not isinstance(one, dict):
                continue
            if 'begin' in one:
                step = {'step': one['begin'], 'status': 'cut off', 'seconds': None}
                steps.append(step)
            elif 'step' in one:
                if step and step['step'] == one['step']:
                    step.update(one)
                else:
                    steps.append(one)
                step = None
            else:
                objects.append({**one, 'step': step['step'] if step else None})
    return steps, objects


def clocks_of(path):
    """Returns the smallest, median and largest clock of the multiprocessors in MHz, or None."""
    clocks = []
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                fields = line.split(',')
                if len(fields) > 3 and fields[1].strip().isdigit():
                    clocks.append(int(fields[1]))
    clocks.sort()
    return [clocks[0], clocks[len(clocks) // 2], clocks[-1]] if clocks else None


def lines_of(result):
    """Returns the lines of the table."""
    objects = result['objects']
    of_kind = lambda kind: [o for o in objects if o.get('kind') == kind]
    targets = lambda o: o['targets'] + (' +' if o['refresh'] else '')
    what = lambda o: f"{o['classes']:>3}{o['batch']:>4} {o['mode']:<5}{targets(o):<8}"
    machine = next((o for o in objects if 'device' in o and 'copy_gb_s' in o), None)
    if machine:
        empty = machine['empty_launch_us'][0]
        yield (f"{machine['device']}, copy {machine['copy_gb_s']} GB/s, fill {machine['fill_gb_s']} GB/s, empty kernel "
               f"launch + synchronize {empty} us, two {machine['two_empty_launches_us'][0]} us (medians)")
    if result['clocks']:
        yield 'clock of the multiprocessors, MHz: %d, median %d, %d' % tuple(result['clocks'])

    peers = {(p['classes'], p['batch'], p['mode'], p['variant']): 1e3 * p['median_ms']
             for p in objects if 'median_ms' in p}
    from_java = {(j['classes'], j['batch'], j['mode'], j['targets']): j['blocking_us'][0]
                 for j in objects if j.get('program') == 'java'}
    calls = of_kind('calls')
    if machine and calls:
        yield (f"{'C':>3}{'B':>4} {'mode':<5}{'targets':<8} {'library':<10}{'kernels us':>11}{'ratio':>7}{'of copy':>8}"
               f"{'of fill':>8}{'blocking us':>12}{'of empty':>9}{'Java us':>9}{'eager':>7}{'manual':>7}{'compile':>8}")
        for c in calls:
            gb_s = c['bytes'] / c['graph_us'] / 1e3
            is_bound_by_memory = not c['refresh'] and c['batch'] >= 32  # less stays in the L2
            shares = [f"{gb_s / machine[k]:.0%}" if is_bound_by_memory else '' for k in ('copy_gb_s', 'fill_gb_s')]
            blocking = c['blocking_us'][0]
            java = from_java.get((c['classes'], c['batch'], c['mode'], targets(c)))
            line = (f"{what(c)} {c['library']:<10}{c['graph_us']:>11.1f}{c['ratio']:>7.3f}{shares[0]:>8}{shares[1]:>8}"
                    f"{blocking:>12.1f}{f'{blocking / empty:.1f}x' if empty else '':>9}"
                    f"{f'{java:.1f}' if java else '':>9}")
            for variant, width in (('eager', 7), ('manual', 7), ('compile', 8)):
                peer = peers.get((c['classes'], c['batch'], c['mode'], variant)) if c['targets'] == 'dense' else None
                line += f"{f'{peer / blocking:.0f}x' if peer else '':>{width}}"
            yield line.rstrip()
        yield 'ratio: kernels by those of the first library; of copy, of fill: needed bytes a second, B >= 32;'
        yield 'of empty: blocking call by an empty kernel; eager, manual, compile: PyTorch by the blocking call;'
        yield '+: refreshed gradient'
    for c in of_kind('cold'):
        yield f"{what(c)} {c['library']:<10}{c['graph_us']:>11.1f}{c['ratio']:>7.3f} cold: {c['arrays']} arrays in turn"
    for c in of_kind('apart'):
        yield f"{what(c)} kernels apart, us: {', '.join(f'{us:.1f}' for us in c['kernels_us'])}"
    for c in of_kind('fetch'):
        yield f"{what(c)} {c['graph_us']:.1f} us, L2 fetches of {c['granularity']} bytes ({c['wanted']} wanted)"
    for c in of_kind('forms'):
        yield f"{c['classes']:>3}{c['batch']:>4} grad dense, {c['form']}: {c['stream_us']:.1f} us a call among many"
    for c in of_kind('host'):
        yield f"{what(c)} {c['memory']} host memory: {c['blocking_us']:.1f} us"
    for c in of_kind('large'):
        yield f"large: {c.get('skipped') or str(c['values']) + ' values, ' + c['targets']}"
    loads = of_kind('load')
    for name in dict.fromkeys(c['library'] for c in loads):
        of_name = [c for c in loads if c['library'] == name]
        middle = lambda key: sorted(c[key] for c in of_name)[len(of_name) // 2]
        yield (f"first use of {name}, ms: context {middle('context_ms')}, open {middle('open_ms')}, plan "
               f"{middle('plan_ms')}, call {middle('call_ms')} (medians of {len(of_name)} processes)")
    for o in objects:
        if 'wrong' in o:
            yield f"WRONG: {o['wrong']}"
    for step in result['steps']:
        if step['status'] != 'ok':
            yield f"{step['step']}: {step['status']}"


def main():
    out = sys.argv[1]
    steps, objects = objects_of(f'{out}/log.txt')
    result = {'date': datetime.date.today().isoformat(), 'processors': os.cpu_count(),
              'clocks': clocks_of(f'{out}/clocks.csv'), 'steps': steps, 'objects': objects}
    lines = list(lines_of(result))
    for name, text in (('json', json.dumps(result, indent=1)), ('txt', '\n'.join(lines))):
        with open(f'{out}/gpu-check.{name}.new', 'w') as file:  # a file that is cut off must not replace a whole one
            file.write(text + '\n')
        os.replace(f'{out}/gpu-check.{name}.new', f'{out}/gpu-check.{name}')


if __name__ == '__main__':
    main()

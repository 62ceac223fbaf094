#!/usr/bin/env python3
"""Puts the logs of bench/gpu-check into one JSON file and prints a short table of them.

  python3 bench/gpu_table.py LOGS JSON [FAILED...]      reads LOGS/*.log, writes JSON
"""
import datetime
import glob
import json
import os
import platform
import sys


def objects_of(path):
    """The JSON objects among the lines of a log."""
    if not os.path.exists(path):
        return []
    with open(path) as log:
        return [json.loads(line) for line in log if line.startswith('{')]


def main():
    logs, written, failed = sys.argv[1], sys.argv[2], sys.argv[3:]
    timings = objects_of(f'{logs}/cuda-bench.log')
    machine = timings.pop(0) if timings else {}
    forms = [t for t in timings if 'form' in t]
    timings = [t for t in timings if 'form' not in t]
    java = objects_of(f'{logs}/java-latency.log')
    peers = [one for path in sorted(glob.glob(f'{logs}/torch-*.log')) for one in objects_of(path)]
    result = {'date': datetime.date.today().isoformat(), 'host': platform.machine(), 'processors': os.cpu_count(),
              'machine': machine, 'failed': failed, 'c': timings, 'forms': forms, 'java': java, 'torch': peers}
    with open(written, 'w') as file:
        json.dump(result, file, indent=1)
        file.write('\n')

    if machine:
        print(f"{machine['device']}, copy {machine['copy_gb_s']} GB/s, fill {machine['fill_gb_s']} GB/s, empty kernel "
              f"launch + synchronize {machine['empty_launch_us'][0]} us (median)")
    else:
        print('no device was timed')
    peer = {(p['classes'], p['batch'], p['mode'], p['variant']): 1e3 * p['median_ms'] for p in peers if 'median_ms' in p}
    from_java = {(j['classes'], j['mode']): j['blocking_us'][0] for j in java}
    print(f"{'C':>3}{'B':>4} {'mode':<5}{'targets':<9}{'kernels us':>11}{'of copy':>9}{'blocking us':>13}{'of empty':>10}"
          f"{'from Java us':>14}{'eager':>8}{'manual':>8}{'compile':>9}")
    for t in timings:
        targets = t['targets'] + (' +' if t['refresh'] else '')
        share = '' if t['refresh'] else f"{t['bytes'] / t['graph_us'] / 1e3 / machine['copy_gb_s']:.0%}"
        cells = [f"{t['classes']:>3}{t['batch']:>4} {t['mode']:<5}{targets:<9}{t['graph_us']:>11.1f}{share:>9}"
                 f"{t['blocking_us'][0]:>13.1f}{t['blocking_us'][0] / machine['empty_launch_us'][0]:>9.1f}x"]
        j = from_java.get((t['classes'], t['mode'])) if t['batch'] == 1 and targets == 'boxes' else None
        cells.append(f'{j:>14.1f}' if j else ' ' * 14)
        for variant, width in (('eager', 8), ('manual', 8), ('compile', 9)):
            p = peer.get((t['classes'], t['batch'], t['mode'], variant)) if targets == 'dense' else None
            cells.append(f"{p / t['blocking_us'][0]:>{width - 1}.0f}x" if p else ' ' * width)
        print(''.join(cells))
    for t in forms:
        print(f"{t['classes']:>3}{t['batch']:>4} grad dense, {t['form']}: {t['stream_us']:.1f} us a call among many")
    print('of copy: bytes that must move per second, as a share of the copy; of empty: blocking call by an empty kernel;')
    print('eager, manual, compile: time of PyTorch by the blocking call; +: refreshed gradient')
    if failed:
        print('FAILED: ' + ', '.join(failed))


if __name__ == '__main__':
    main()

"""Draws policies on the exact frontier of reward and KL, as SVG. Usage: python3 benches/frontier.py LINES FIGURE.svg

LINES is what the long tests of alignment print (`every_method` and `preferences` of tests/tests/closed_form): points of the frontier, and a
line for every trained policy. A seed has a reference and hence a frontier of its own: that of seed 0 is drawn, with its policies. A policy above the
frontier would be a fault; how far below it each lies is in the table of benches/RESULTS.md.
"""

import pathlib
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 56, 200, 16, 44
COLOURS = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#555555"]


def read(path):
    frontier, dots = [], []
    for line in pathlib.Path(path).read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if cells[0] == "frontier":
            frontier.append((float(cells[1]), float(cells[2])))
        elif len(cells) == 8 and cells[1] in ("0.5", "0.1") and cells[2] == "0":
            dots.append((cells[0], cells[1], float(cells[5]), float(cells[6])))
    return sorted(frontier), dots


def main():
    frontier, dots = read(sys.argv[1])
    most = max(kl for _, _, kl, _ in dots) * 1.08
    frontier = [(kl, reward) for kl, reward in frontier if kl <= most]
    low, high = frontier[0][1] - 0.05, max(frontier[-1][1], *(reward for *_, reward in dots)) + 0.1
    x = lambda kl: LEFT + kl / most * (WIDTH - LEFT - RIGHT)
    y = lambda reward: HEIGHT - BOTTOM - (reward - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    names = sorted({name for name, *_ in dots})
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">']
    out.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    for kl in range(int(most) + 1):
        out.append(f'<text x="{x(kl):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{kl}</text>')
    for i in range(int(low * 2) + 1, int(high * 2) + 1):
        out.append(f'<path d="M{LEFT} {y(i / 2):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y(i / 2) + 4:.1f}" text-anchor="end">{i / 2}</text>')
    path = "L".join(f"{x(kl):.1f} {y(reward):.1f}" for kl, reward in frontier)
    out.append(f'<path d="M{path}" fill="none" stroke="black" stroke-width="1.5"/>')
    for name, beta, kl, reward in dots:
        colour = COLOURS[names.index(name) % len(COLOURS)]
        shape = f'<circle cx="{x(kl):.1f}" cy="{y(reward):.1f}" r="4"' if beta == "0.5" else f'<rect x="{x(kl) - 4:.1f}" y="{y(reward) - 4:.1f}" width="8" height="8"'
        out.append(f'{shape} fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for i, name in enumerate(names):
        out.append(f'<circle cx="{WIDTH - RIGHT + 20}" cy="{TOP + 14 + 20 * i}" r="4" fill="{COLOURS[i % len(COLOURS)]}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 32}" y="{TOP + 18 + 20 * i}">{name}</text>')
    out.append(f'<text x="{WIDTH - RIGHT + 16}" y="{TOP + 30 + 20 * len(names)}">circles: β = .5, squares: .1</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">KL from the reference, nats</text>')
    out.append(f'<text x="14" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2})">reward</text></svg>')
    pathlib.Path(sys.argv[2]).write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()

"""Notes found by the names of their instruments: trained on some pitches, or another soundfont, and searched by others.

    pip install tinysoundfont
    apt-get download timgm6mb-soundfont fluid-soundfont-gm
    for package in *-soundfont*.deb; do dpkg -x $package build/sf; done
    OMP_NUM_THREADS=1 python tests/benchmarks/compare_sound_text.py build/sf/usr/share/sounds/sf2 --out build/sounds

`render` makes a WAV of each of the 128 instruments of General MIDI at 17 pitches, 36 to 84, two seconds at 16 kHz.
`pitch`: the seed draws five pitches that are held out, all of TimGM6mb. `soundfont`: trained on all notes of TimGM6mb,
searched are those of FluidR3. Queries are the 128 names (`name`) and the 16 families (`family`), texts of the training.
Intervals are Student's over the seeds and percentiles over the queries, 95 %.
"""

from __future__ import annotations

import argparse
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.media import MediaConfig, MediaStore
from diptych_adapters.media_text.network import MediaTextModel, MediaTextNetwork, TowerShape
from diptych_experimental.media_forms import Spectrogram
from machine import facts
from media_text import TRAINING, measures, scores_of, told, train

SEEDS, HELD = (0, 1, 2), 5
PITCHES = range(36, 85, 3)
RATE, SECONDS, HELD_SECONDS = 16_000, 2.0, 1.5  # the key is released after HELD_SECONDS
FONTS = {"timgm": "TimGM6mb.sf2", "fluid": "FluidR3_GM.sf2"}
FAMILIES = {
    "piano": "acoustic grand piano, bright acoustic piano, electric grand piano, honky-tonk piano, electric piano 1, "
    "electric piano 2, harpsichord, clavinet",
    "chromatic percussion": "celesta, glockenspiel, music box, vibraphone, marimba, xylophone, tubular bells, dulcimer",
    "organ": "drawbar organ, percussive organ, rock organ, church organ, reed organ, accordion, harmonica, "
    "tango accordion",
    "guitar": "nylon guitar, steel guitar, jazz guitar, clean electric guitar, muted electric guitar, "
    "overdriven guitar, distortion guitar, guitar harmonics",
    "bass": "acoustic bass, fingered bass, picked bass, fretless bass, slap bass 1, slap bass 2, synth bass 1, "
    "synth bass 2",
    "strings": "violin, viola, cello, contrabass, tremolo strings, pizzicato strings, orchestral harp, timpani",
    "ensemble": "string ensemble 1, string ensemble 2, synth strings 1, synth strings 2, choir aahs, voice oohs, "
    "synth voice, orchestra hit",
    "brass": "trumpet, trombone, tuba, muted trumpet, french horn, brass section, synth brass 1, synth brass 2",
    "reed": "soprano sax, alto sax, tenor sax, baritone sax, oboe, english horn, bassoon, clarinet",
    "pipe": "piccolo, flute, recorder, pan flute, blown bottle, shakuhachi, whistle, ocarina",
    "synth lead": "square lead, sawtooth lead, calliope lead, chiff lead, charang lead, voice lead, fifths lead, "
    "bass and lead",
    "synth pad": "new age pad, warm pad, polysynth pad, choir pad, bowed pad, metallic pad, halo pad, sweep pad",
    "synth effects": "rain, soundtrack, crystal, atmosphere, brightness, goblins, echoes, sci-fi",
    "ethnic": "sitar, banjo, shamisen, koto, kalimba, bagpipe, fiddle, shanai",
    "percussive": "tinkle bell, agogo, steel drums, woodblock, taiko drum, melodic tom, synth drum, reverse cymbal",
    "sound effects": "guitar fret noise, breath noise, seashore, bird tweet, telephone ring, helicopter, applause, "
    "gunshot",
}
NAMES = [(name, family) for family, names in FAMILIES.items() for name in names.split(", ")]


def render(font: Path, folder: Path) -> None:
    """`PROGRAM-PITCH.wav` of all instruments and pitches, mono, unless they are there."""
    import tinysoundfont  # type: ignore[import-not-found]  # no dependency of diptych

    last = folder / f"127-{PITCHES[-1]}.wav"
    if last.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    synth = tinysoundfont.Synth(samplerate=RATE)
    loaded = synth.sfload(str(font))
    for program in range(128):
        synth.program_select(0, loaded, 0, program)
        for pitch in PITCHES:
            synth.noteon(0, pitch, 100)
            parts = [np.frombuffer(bytes(synth.generate(int(RATE * HELD_SECONDS))), np.float32)]
            synth.noteoff(0, pitch)
            parts.append(np.frombuffer(bytes(synth.generate(int(RATE * (SECONDS - HELD_SECONDS)))), np.float32))
            synth.sounds_off(0)
            samples = np.concatenate(parts).reshape(-1, 2).mean(axis=1)
            with wave.open(str(folder / f"{program}-{pitch}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


def rows(font: str, pitches: list[int]) -> list[dict[str, Any]]:
    """Rows of the recipe: a note each, with the instrument's name and its family."""
    return [
        {"sound": f"{font}/{program}-{pitch}.wav", "texts": [name, family], "group": name}
        for program, (name, family) in enumerate(NAMES)
        for pitch in pitches
    ]


def untrained(run: Path, seed: int) -> Path:
    """The model with random weights in place of the trained ones."""
    folder, text = run.with_name(f"{run.name}-untrained"), json.loads((run / "config.json").read_text("utf-8"))
    torch.manual_seed(seed)
    form = Spectrogram(text["rate"], text["frames"], text["bands"])
    words = json.loads((run / "words.json").read_text("utf-8"))
    network = MediaTextNetwork(TowerShape(form, text["width"], text["dimension"], len(words))).eval()
    MediaTextModel(network, words, text["text"]).save(folder)
    return folder


def main() -> None:
    """Render, train, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/sounds"))
    parser.add_argument("--splits", nargs="+", default=["pitch", "soundfont"], choices=["pitch", "soundfont"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--epochs", type=float, default=25)
    given = parser.parse_args()
    for name, file in FONTS.items():
        if (given.fonts / file).exists():
            render(given.fonts / file, given.out / name)
    store = MediaStore(MediaConfig(), given.out)
    options: dict[str, Any] = {"training": {**TRAINING, "epochs": given.epochs}}
    found: dict[str, Any] = {"machine": facts(), **options}
    for split in given.splits:
        values: dict[str, list[Any]] = {}
        for seed in given.seeds:
            held = sorted(np.random.default_rng(seed).choice(PITCHES, HELD, replace=False).tolist())
            if split == "pitch":
                learned, tested = rows("timgm", [own for own in PITCHES if own not in held]), rows("timgm", held)
            else:
                learned, tested = rows("timgm", [*PITCHES]), rows("fluid", [*PITCHES])
            contents = [store.content(store.take("sound", row["sound"])) for row in tested]
            run = train("sound", given.out / f"{split}-{seed}", learned, {**options, "seed": seed})
            for kind, place in (("name", 0), ("family", 1)):
                texts = list(dict.fromkeys(own[place] for own in NAMES))
                relevant = np.array([[row["texts"][place] == text for row in tested] for text in texts])
                scores = scores_of("sound", run, contents, texts)
                scores |= {
                    f"untrained, {key}": own
                    for key, own in scores_of("sound", untrained(run, seed), contents, texts).items()
                }
                for system, matrix in scores.items():
                    for measure, own in measures(matrix, relevant).items():
                        values.setdefault(f"{split} | {kind} | {system} | {measure}", []).append(own)
        found |= {name: told(name, own) for name, own in values.items()}
        (given.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

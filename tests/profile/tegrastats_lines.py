"""Lines that tegrastats printed on real boards, each with the public file it was read in.

They are program output. Two come from a fake tegrastats that replays a recorded board with random loads; there the
loads are filled in here. The whole log in data/ is described in data/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOG = Path(__file__).parent / "data" / "tegrastats_orin_nano_jp62.log"

_DATADOG = "DataDog/datadog-agent pkg/collector/corechecks/nvidia/jetson/jetson_test.go (Apache-2.0)"
_BESZEL = "henrygd/beszel beszel/internal/agent/gpu_test.go"
_JETSON_STATS = "rbonghi/jetson_stats"
_EXPORTER = "lesomnus/tegra-exporter, test of the stats package"


@dataclass(frozen=True)
class Line:
    """`targets` names a target whose rails the line prints; "" where its total rail is not in tegrastats."""

    what: str
    source: str
    target: str
    text: str
    total_mw: int = 0


LINES = (
    Line(
        "TX1, JetPack 4", _DATADOG,
        "",
        "RAM 1179/3983MB (lfb 120x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,4%@102,0%@102,0%@102] "
        "EMC_FREQ 7%@408 GR3D_FREQ 0%@76 APE 25 AO@42.5C CPU@37.5C GPU@39C PLL@37C Tdiode@42.75C "
        "PMIC@100C Tboard@42C thermal@38.5C VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19",
        0,
    ),
    Line(
        "TX2, two cores off", _DATADOG,
        "tx2",
        "RAM 2344/7852MB (lfb 1154x4MB) SWAP 0/3926MB (cached 0MB) CPU "
        "[1%@345,off,off,1%@345,0%@345,2%@345] EMC_FREQ 4%@1600 GR3D_FREQ 0%@624 APE 150 PLL@37.5C "
        "MCPU@37.5C PMIC@100C Tboard@32C GPU@35C BCPU@37.5C thermal@36.5C Tdiode@34.25C VDD_SYS_GPU "
        "152/152 VDD_SYS_SOC 687/687 VDD_4V0_WIFI 0/0 VDD_IN 3056/3056 VDD_SYS_CPU 152/152 VDD_SYS_DDR "
        "883/883",
        3056,
    ),
    Line(
        "Nano", _DATADOG,
        "jetson-nano",
        "RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) CPU "
        "[16%@204,9%@204,0%@204,0%@204] EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@34C CPU@36.5C "
        "PMIC@100C GPU@36C AO@39.5C thermal@36.25C POM_5V_IN 1022/1022 POM_5V_GPU 0/0 POM_5V_CPU 204/204",
        1022,
    ),
    Line(
        "AGX Xavier, JetPack 4", _DATADOG,
        "agx-xavier-32gb",
        "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU "
        "[2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 MTS "
        "fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C Tboard@37C "
        "GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482",
        3346,
    ),
    Line(
        "Xavier NX, JetPack 4, under load", _DATADOG,
        "xavier-nx-8gb",
        "RAM 4412/7772MB (lfb 237x4MB) SWAP 139/3886MB (cached 2MB) CPU "
        "[9%@1190,6%@1190,6%@1190,5%@1190,4%@1190,8%@1267] EMC_FREQ 10%@1600 GR3D_FREQ 62%@306 APE 150 "
        "MTS fg 0% bg 0% AO@41.5C GPU@43C PMIC@100C AUX@41.5C CPU@43.5C thermal@42.55C VDD_IN 4067/4067 "
        "VDD_CPU_GPU_CV 738/738 VDD_SOC 1353/1353",
        4067,
    ),
    Line(
        "Orin NX, JetPack 5", _DATADOG,
        "orin-nx-16gb",
        "RAM 6334/15388MB (lfb 1770x4MB) SWAP 491/7694MB (cached 0MB) CPU "
        "[6%@729,9%@729,5%@729,16%@729,off,off,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@611 VIC_FREQ 729 "
        "APE 174 CV0@45.812C CPU@47.937C SOC2@46.093C SOC0@46.968C CV1@46.406C GPU@45.875C tj@48.875C "
        "SOC1@48.875C CV2@45.75C VDD_IN 5299mW/5299mW VDD_CPU_GPU_CV 773mW/773mW VDD_SOC 1424mW/1424mW",
        5299,
    ),
    Line(
        "AGX Orin, JetPack 6, runs of blanks", _DATADOG,
        "agx-orin-32gb",
        "RAM 29114/30697MB (lfb 3x4MB)    SWAP 4915/15348MB (cached 1MB) CPU "
        "[3%@729,4%@729,0%@729,1%@729,0%@2201,100%@2201,1%@2201,0%@2201,100%@2201,0%@2201,0%@2201,0%@2201] "
        "EMC_FREQ 1%@2133 GR3D_FREQ 0%@[305,305] NVENC      off  NVDEC    off NVJPG off NVJPG1    "
        "off         VIC        off          OFA           off          NVDLA0    off       NVDLA1     "
        "off          PVA0_FREQ off         APE           174        cpu@53.062C soc2@48.25C "
        "soc0@48.843C  gpu@47.812C tj@53.062C soc1@48.968C    VDD_GPU_SOC 3205mW/3205mW VDD_CPU_CV "
        "4405mW/4405mW VIN_SYS_5V0 4767mW/4767mW",
        12377,
    ),
    Line(
        "AGX Orin, without root", _DATADOG,
        "agx-orin-64gb",
        "RAM 2448/62840MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) CPU "
        "[0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201] "
        "GR3D_FREQ 0% cpu@42C soc2@37.843C soc0@39.187C gpu@37.75C tj@42C soc1@37.937C VDD_GPU_SOC "
        "4940mW/4940mW VDD_CPU_CV 988mW/988mW VIN_SYS_5V0 4442mW/4442mW",
        10370,
    ),
    Line(
        "Orin Nano, JetPack 6, load", _BESZEL,
        "orin-nano-8gb",
        "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU "
        "[15%@729,11%@729,14%@729,13%@729,11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC "
        "off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@53.968C soc2@52.437C soc0@50.75C "
        "gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC "
        "2817mW/2817mW",
        12479,
    ),
    Line(
        "Orin Nano, without root", _BESZEL,
        "orin-nano-8gb",
        "06-18-2025 11:25:24 RAM 3452/7620MB (lfb 25x4MB) SWAP 1518/16384MB (cached 174MB) CPU "
        "[1%@1420,2%@1420,0%@1420,2%@1420,2%@729,1%@729] GR3D_FREQ 0% cpu@50.031C soc2@49.031C soc0@50C "
        "gpu@49.031C tj@50.25C soc1@50.25C VDD_IN 4824mW/4824mW VDD_CPU_GPU_CV 518mW/518mW VDD_SOC "
        "1475mW/1475mW",
        4824,
    ),
    Line(
        "Nano, JetPack 4.6.1", "public file, repository unknown (#30937617475)",
        "jetson-nano",
        "RAM 1923/3964MB (lfb 2x2MB) SWAP 191/1982MB (cached 6MB) IRAM 0/252kB(lfb 252kB) CPU "
        "[5%@1224,4%@1224,3%@1224,6%@1224] EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@37C CPU@40C "
        "PMIC@50C GPU@40C AO@45C thermal@40C POM_5V_IN 1750/1628 POM_5V_GPU 0/0 POM_5V_CPU 366/406",
        1750,
    ),
    Line(
        "Nano, without root", "public file, repository unknown (#49213657122)",
        "jetson-nano",
        "RAM 1738/3956MB (lfb 172x4MB) SWAP 0/1978MB (cached 0MB) CPU [7%@1224,0%@1224,3%@1224,7%@1224] "
        "EMC_FREQ 0% GR3D_FREQ 0% PLL@29C CPU@31C PMIC@100C GPU@31.5C AO@37C thermal@31.25C POM_5V_IN "
        "1997/2089 POM_5V_GPU 40/57 POM_5V_CPU 203/289",
        1997,
    ),
    Line(
        "Nano 4GB", "public file, repository unknown (#32900000739)",
        "jetson-nano",
        "RAM 2015/3964MB (lfb 98x4MB) SWAP 29/1982MB (cached 3MB) CPU [6%@102,5%@102,4%@102,3%@102] "
        "EMC_FREQ 0% GR3D_FREQ 0% PLL@28C CPU@31.5C PMIC@100C GPU@30.5C AO@36C thermal@31.25C POM_5V_IN "
        "1388/1388 POM_5V_GPU 122/122 POM_5V_CPU 163/163",
        1388,
    ),
    Line(
        "AGX Xavier, JetPack 5, cut off", "public file, repository unknown (#1345240961)",
        "agx-xavier-32gb",
        "[0%@1190,1%@1190,0%@1190,0%@1189,0%@1190,0%@1191,0%@1190,0%@1190] EMC_FREQ 0%@1331 GR3D_FREQ "
        "0%@114 VIC_FREQ 115 APE 150 AUX@36C CPU@36.5C thermal@35.7C Tboard@37C AO@35C GPU@35C "
        "Tdiode@38.75C PMIC@50C GPU 467mW/467mW CPU 467mW/467mW SOC 1245mW/1245mW CV 0mW/0mW VDDRQ "
        "311mW/311mW SYS5V 2768mW/2768mW",
        5258,
    ),
    Line(
        "AGX Orin, JetPack 7.2", _JETSON_STATS + " jtop/tests/test_06_tegra_parse.py",
        "agx-orin-64gb",
        "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU "
        "[23%@2201,10%@2201,4%@2201,14%@2201,30%@2201,18%@2201,10%@2201,10%@2201,33%@2201,7%@2201,5%@2201,27%@2201] "
        "EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off VIC off "
        "OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C "
        "soc0@49.531C/49.531C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV "
        "3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW",
        13907,
    ),
    Line(
        "Orin Nano Super, idle", "hokwangchoi/jetson-orin-nano-benchmarks (MIT)",
        "orin-nano-8gb-super",
        "04-19-2026 01:31:10 RAM 519/7607MB (lfb 61x4MB) CPU "
        "[0%@1728,0%@1728,0%@1728,9%@1728,0%@1728,0%@1728] EMC_FREQ 0%@3199 GR3D_FREQ 0%@[1018] NVDEC "
        "off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@48.906C soc2@47.656C soc0@48.093C "
        "gpu@49.593C tj@49.593C soc1@47.312C VDD_IN 5971mW/5971mW VDD_CPU_GPU_CV 1669mW/1669mW VDD_SOC "
        "2308mW/2308mW",
        5971,
    ),
    Line(
        "Orin Nano Super, peak load", "hokwangchoi/jetson-orin-nano-benchmarks (MIT)",
        "orin-nano-8gb-super",
        "04-19-2026 01:32:18 RAM 4239/7607MB (lfb 5x2MB) CPU "
        "[0%@1728,0%@1728,8%@1728,0%@1728,0%@1728,0%@1728] EMC_FREQ 80%@3199 GR3D_FREQ 99%@[1013] NVDEC "
        "off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@56.906C soc2@56.375C soc0@55.343C "
        "gpu@59.843C tj@59.843C soc1@53.781C VDD_IN 21663mW/11830mW VDD_CPU_GPU_CV 9299mW/4566mW VDD_SOC "
        "6090mW/3643mW",
        21663,
    ),
    Line(
        "Orin Nano, trailing blank", "public file, repository unknown (#66465327123)",
        "orin-nano-8gb",
        "04-27-2026 14:59:41 RAM 775/7620MB (lfb 3x4MB) SWAP 0/3810MB (cached 0MB) CPU "
        "[1%@729,0%@729,0%@729,0%@729,0%@729,0%@729] GR3D_FREQ 0% cpu@48.468C soc2@47.531C soc0@48.062C "
        "gpu@48.562C tj@49.156C soc1@49.156C VDD_IN 4761mW/4778mW VDD_CPU_GPU_CV 515mW/501mW VDD_SOC "
        "1428mW/1428mW ",
        4761,
    ),
    Line(
        "AGX Orin, JetPack 5, unread zones", _JETSON_STATS + " tests/tegrastats",
        "agx-orin-64gb",
        "01-03-2023 16:07:54 RAM 2257/30536MB (lfb 5392x4MB) SWAP 0/15268MB (cached 0MB) CPU "
        "[0%@729,1%@729,2%@729,3%@729,4%@729,5%@729,6%@729,7%@729,8%@729,9%@729,10%@729,11%@729] "
        "EMC_FREQ 0%@204 GR3D_FREQ 7%@0 GR3D2_FREQ 7%@0 NVJPG1 729 VIC_FREQ 115 APE 233 CV0@-256C "
        "CPU@41.437C Tboard@29C SOC2@39.062C Tdiode@30.75C SOC0@39.031C CV1@-256C GPU@-256C tj@41.656C "
        "SOC1@38.937C CV2@-256C VDD_GPU_SOC 2390mW/2390mW VDD_CPU_CV 796mW/796mW VIN_SYS_5V0 "
        "3522mW/3522mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW",
        6708,
    ),
    Line(
        "TX2, negative zones", _JETSON_STATS + " tests/tegrastats",
        "",
        "RAM 4722/7844MB (lfb 1x512kB) CPU [0%@2035,1%@2035,2%@2035,3%@2035,4%@2035,5%@2035] SWAP "
        "149/1024MB (cached 7MB) EMC_FREQ 2%@1866 GR3D_FREQ 7%@1300 APE 150 MTS fg 0% bg 0% BCPU@-45C "
        "MCPU@-45C GPU@-51C PLL@45C AO@47.5C Tboard@37C Tdiode@46.75C PMIC@100C thermal@46.4C VDD_IN "
        "14025/14416 VDD_CPU 2209/2538 VDD_GPU 6854/6903 VDD_SOC 1371/1370 VDD_WIFI 19/19 NVENC 716 "
        "NVDEC 716 VDD_DDR 2702/2702",
        0,
    ),
    Line(
        "AGX Orin, JetPack 6.2, GPU gated", _EXPORTER,
        "agx-orin-64gb",
        "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU "
        "[14%@2188,5%@2112,8%@2035,14%@2201,46%@1267,47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,6%@1036,10%@1036] "
        "EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off NVJPG1 off VIC 36%@115 "
        "OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.562C soc2@48.437C soc0@49.093C "
        "tj@52.562C soc1@49.656C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 "
        "4707mW/4707mW",
        8726,
    ),
    Line(
        "AGX Thor, JetPack 7.1", _EXPORTER,
        "",
        "05-17-2026 10:00:32 RAM 4208/125773MB (lfb 31x4MB) SWAP 0/2048MB (cached 0MB) CPU "
        "[1%@972,0%@972,0%@972,0%@972,1%@972,0%@972,1%@972,1%@972,0%@972,0%@972,3%@972,0%@972,0%@972,1%@972] "
        "EMC_FREQ 0%@665 GR3D_FREQ @[0,0,0] NVENC0_FREQ @0 NVENC1_FREQ @0 NVDEC0_FREQ @0 NVDEC1_FREQ @0 "
        "NVJPG0_FREQ @0 VIC off OFA_FREQ @0 PVA0_FREQ off APE 300 cpu@34.468C tj@34.5C soc012@33.781C "
        "soc345@34.5C VDD_GPU 0mW/0mW VDD_CPU_SOC_MSS 4165mW/4165mW VIN_SYS_5V0 4126mW/4126mW",
        0,
    ),
    Line(
        "AGX Thor, JetPack 7.2", _EXPORTER,
        "",
        "07-23-2026 15:29:27 RAM 9091/125811MB (lfb 19x4MB) SWAP 0/2048MB (cached 0MB) CPU "
        "[40%@972,16%@972,18%@972,20%@972,13%@972,11%@972,15%@972,19%@972,10%@972,15%@972,28%@972,11%@972,11%@972,"
        "15%@972] EMC_FREQ 7%@3200 GR3D_FREQ @[314,314,314] NVENC0_FREQ @1556 NVENC1_FREQ @1556 NVDEC0_FREQ @1556 "
        "NVDEC1_FREQ @1556 NVJPG0_FREQ @1556 VIC 59%@423 OFA_FREQ @1556 PVA0_FREQ off APE 300 "
        "cpu@34.312C/34.843C tj@35.906C/35.906C soc012@34.093C/34.437C gpu@35.906C/35.906C "
        "soc345@34.437C/34.437C VDD_GPU 4925mW/4925mW/4925mW VDD_CPU_SOC_MSS 7953mW/8332mW/8710mW "
        "VIN_SYS_5V0 6667mW/6717mW/6767mW",
        0,
    ),
    Line(
        "AGX Orin 64GB, a DLA works", "public file, repository unknown (#8329726155)",
        "agx-orin-64gb",
        "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C CPU@77.281C "
        "Tboard@62C SOC2@70C Tdiode@62.25C SOC0@69.531C CV1@72.5C GPU@69.125C tj@77.281C SOC1@68.968C CV2@67.25C "
        "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW",
        22430,
    ),
)  # fmt: skip

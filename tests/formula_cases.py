"""About 200 formulas as people write them, with the composition that a chemist reads, or why they are refused."""

READ = {
    # plain
    "VI3": "VI3", "CsVI3": "CsVI3", "CsIIn": "CsIIn", "CaI2V": "CaI2V", "I2": "I2", "CuI": "CuI",
    "Fe": "Fe", "O2": "O2", "NaCl": "NaCl", "ClNa": "NaCl", "CO": "CO", "Co": "Co", "NO": "NO", "No2": "No2", "C60": "C60", "H2O2": "H2O2",
    "Fe2O3": "Fe2O3", "Fe2.0O3.0": "Fe2O3", "Fe02O03": "Fe2O3", "Fe2 O3": "Fe2O3", "Fe 2 O 3": "Fe2O3", " Fe2O3\t": "Fe2O3",
    "Fe2O3\u00a0": "Fe2O3", "Fe2O3\u200b": "Fe2O3", "\ufeffFe2O3": "Fe2O3", "Fe2\nO3": "Fe2O3", "O3Fe2": "Fe2O3", "Fe4O6": "Fe4O6",
    "Li7La3Zr2O12": "Li7La3Zr2O12", "CH3COOH": "C2H4O2", "Hf3N4": "Hf3N4", "HfO2": "HfO2", "PoO2": "PoO2", "POCl3": "POCl3", "NaN": "NaN",
    # numbers
    "Li0.5CoO2": "Li0.5CoO2", "Li.5CoO2": "Li0.5CoO2", "Fe0.947O": "Fe0.947O", "YBa2Cu3O6.9": "YBa2Cu3O6.9", "Fe2.O3": "Fe2O3",
    "Ba.6K.4BiO3": "Ba0.6K0.4BiO3", "Bi.5Na.5TiO3": "Bi0.5Na0.5TiO3", "La1.85Sr0.15CuO4": "La1.85Sr0.15CuO4", "Ca(OH)2.": "CaO2H2",
    "Al1E-05Ti1": "Al0.00001Ti", "Al1e-05Ti1": "Al0.00001Ti", "Al1E+02Ti": "Al100Ti", "Fe3e-2O": "Fe0.03O",
    "Mg2Si0.4Sn0.6": "Mg2Si0.4Sn0.6",
    "Zr41.2Ti13.8Cu12.5Ni10Be22.5": "Zr41.2Ti13.8Cu12.5Ni10Be22.5", "Li6.4La3Zr1.4Ta0.6O12": "Li6.4La3Zr1.4Ta0.6O12",
    "KMg0.5Fe2.5AlSi3O10(OH)2": "KMg0.5Fe2.5AlSi3O12H2", "Cs2.5H0.5PW12O40": "Cs2.5H0.5PW12O40", "MgH1.5D0.5": "MgH2",
    "Li0.5H2O": "Li0.5H2O", "CaCl2.0H2O": "CaCl2H2O", "Ni2.5(OH)5": "Ni2.5O5H5", "Li1.3Al0.3Ti1.7(PO4)3": "Li1.3Al0.3Ti1.7P3O12",
    "Cs0.05(CH5N2)0.79(CH3NH3)0.16PbI2.49Br0.51": "Cs0.05C0.95H4.91N1.74PbI2.49Br0.51", "SnO1.5F": "SnO1.5F",
    "FeSe0.5Te0.5": "FeSe0.5Te0.5",
    # brackets
    "Ca(OH)2": "CaO2H2", "Ca[OH]2": "CaO2H2", "Ca{OH}2": "CaO2H2", "{[Cu(H2O)]2}": "Cu2H4O2", "(CH3NH3)PbI3": "CH6NPbI3",
    "K3[Fe(CN)6]": "K3FeC6N6",
    "Li(Ni0.8Co0.1Mn0.1)O2": "LiNi0.8Co0.1Mn0.1O2", "CsPb(I0.5Br0.5)3": "CsPbI1.5Br1.5", "(Bi0.25Sb0.75)2Te3": "Bi0.5Sb1.5Te3",
    "KAl2(AlSi3O10)(OH)2": "KAl3Si3O12H2", "Ca10(PO4)6(OH)2": "Ca10P6O26H2", "Ca5(PO4)3(F)": "Ca5P3O12F", "(NH4)2SO4": "N2H8SO4",
    "[Co(NH3)6]Cl3": "CoN6H18Cl3", "(Fe)2(O)3": "Fe2O3", "((Fe)2)O3": "Fe2O3", "Ca (OH) 2": "CaO2H2", "Y3N@C80": "Y3NC80",
    "La@C82": "LaC82",
    # isotopes of hydrogen
    "D2O": "H2O", "HDO": "H2O", "LiD": "LiH", "T2O": "H2O", "HTO": "H2O", "LiT": "LiH", "ND3": "NH3", "Dy2O3": "Dy2O3", "TiD2": "TiH2",
    # subscripts
    "Fe₂O₃": "Fe2O3", "H₂O": "H2O", "Li₀.₅CoO₂": "Li0.5CoO2", "CuSO₄·5H₂O": "CuSO9H10", "Ca₁₀(PO₄)₆(OH)₂": "Ca10P6O26H2",
    # oxidation states
    "Fe(II)O": "FeO", "Fe(III)2O3": "Fe2O3", "Sn(IV)O2": "SnO2", "Fe(II)Fe(III)2O4": "Fe3O4", "Mn(VII)": "Mn", "Mo(VI)O3": "MoO3",
    # raised dots
    "CuSO4·5H2O": "CuSO9H10", "CuSO4•5H2O": "CuSO9H10", "CuSO4∙5H2O": "CuSO9H10", "CuSO4⋅5H2O": "CuSO9H10", "CuSO4*5H2O": "CuSO9H10",
    "CuSO4 · 5 H2O": "CuSO9H10", "CaO·6Al2O3": "CaAl12O19", "3CaO·Al2O3": "Ca3Al2O6", "CaSO4·0.5H2O": "CaSO4.5H",
    "CaSO4·1/2H2O": "CaSO4.5H",
    "3CaO·2SiO2·3H2O": "Ca3Si2O10H6", "K2O·Al2O3·6SiO2": "K2Al2Si6O16", "Na2SO4 · 10 H2O": "Na2SO14H20", "0.5Li2O·0.5B2O3": "LiBO2",
    "NaBr·2(H2O)": "NaBrH4O2", "LiBr·2CH3OH": "LiBrC2H8O2", "Fe2.5·O": "Fe2.5O", "MgCl2·6H2O·KCl": "MgCl3KH12O6",
    # dots on the line
    "CuSO4.5H2O": "CuSO9H10", "CuSO4.5 H2O": "CuSO9H10", "CuSO4 .5H2O": "CuSO9H10", "CuSO4. 5H2O": "CuSO9H10", "CuSO4 . 5 H2O": "CuSO9H10",
    "CuSO4.5(H2O)": "CuSO9H10", "CuSO4.5D2O": "CuSO9H10", "MgSO4.7D2O": "MgSO11H14", "MgSO4.7 D2O": "MgSO11H14",
    "Na2CO3.10H2O": "Na2CO13H20",
    "Na2CO3.10 H2O": "Na2CO13H20", "CaSO4.2H2O": "CaSO6H4", "CaSO4.2 H2O": "CaSO6H4", "CuCl2.H2O": "CuCl2H2O", "CuCl2.2H2O": "CuCl2H4O2",
    "LiCl.H2O": "LiClH2O", "LiOH.H2O": "LiO2H3", "NaBr.2H2O": "NaBrH4O2", "NaBr.2 H2O": "NaBrH4O2", "NaCl .2H2O ": "NaClH4O2",
    "FeCl3.6H2O": "FeCl3H12O6", "FeCl3.6 H2O": "FeCl3H12O6", "FePO4.2H2O": "FePO6H4", "AlCl3.6H2O": "AlCl3H12O6",
    "Zn(NO3)2.6H2O": "ZnN2O12H12",
    "Mg(ClO4)2.6(H2O)": "MgCl2O14H12", "KAl(SO4)2.12H2O": "KAlS2O20H24", "(NH4)2Fe(SO4)2.6H2O": "N2H20FeS2O14",
    "Al2(SO4)3.18H2O": "Al2S3O30H36",
    "AlCl3.6NH3": "AlCl3N6H18", "CoCl2.6NH3": "CoCl2N6H18", "AlCl3.NH3": "AlCl3NH3", "MgCl2.2HCl": "MgCl4H2", "CaCl2.8ND3": "CaCl2N8H24",
    "V2O5.0.5H2O": "V2O5.5H", "V2O5.1.5H2O": "V2O6.5H3", "Na0.35CoO2.1.3H2O": "Na0.35CoO3.3H2.6", "CaSO4.0.5H2O": "CaSO4.5H",
    "CaO.Al2O3": "CaAl2O4", "3CaO.Al2O3": "Ca3Al2O6", "CaO.2Al2O3": "CaAl4O7", "CaO.6Al2O3": "CaAl12O19", "BaO.6Fe2O3": "BaFe12O19",
    "SrO.6Fe2O3": "SrFe12O19", "Na2O.2B2O3": "Na2B4O7", "Na2O.3SiO2": "Na2Si3O7", "Li2O.5SiO2": "Li2Si5O11", "CaO.SiO2": "CaSiO3",
    "K2O.Al2O3.6SiO2": "K2Al2Si6O16", "3Al2O3.2SiO2": "Al6Si2O13", "Al2O3.2SiO2.2H2O": "Al2Si2O9H4", "KCl.MgCl2.6H2O": "KMgCl3H12O6",
    "3NaF.AlF3": "Na3AlF6", "K2SO4.2MgSO4": "K2Mg2S3O12", "MgCl2.2KCl": "MgK2Cl4", "Na2CO3.NaHCO3.2H2O": "Na3C2HO8H4",
    "2CaSO4.H2O": "Ca2S2O9H2",
    # spaces
    "NaBr 2H2O": "NaBrH4O2", "NaBr 2 H2O": "NaBrH4O2", "KF 2H2O": "KFH4O2", "LiOH 1H2O": "LiO2H3", "NaI 2H2O": "NaIH4O2",
    "CuSO4 H2O": "CuSO5H2",
    "MgCl2 6H2O": "MgCl2H12O6", "CuSO4 5 H2O": "CuSO9H10", "CaSO4 0.5H2O": "CaSO4.5H", "CaO 2Al2O3": "CaAl4O7",
}  # fmt: skip
"""Formula -> the same composition in plain symbols and numbers."""

REFUSED = {
    # the dot or the space may be either
    "Li1.5H2O": "ambiguous", "Li.5H2O": "ambiguous", "MnO1.9H2O": "ambiguous", "WO3.33H2O": "ambiguous", "MgBr2.3C4H8O": "ambiguous",
    "(CuSO4.5H2O)2": "ambiguous", "Fe 2O3": "ambiguous", "Zn 0.5Cu0.5": "ambiguous", "Mg1.5SiO2.5(OH)2": "ambiguous", "Fe .5O": "ambiguous",
    "Fe1.2.3O": "ambiguous", "Fe1.2.3": "holds '.'", "CaO.": "holds '.'", ".CaO": "holds", "CuSO4··5H2O": "holds '·'",
    "CuSO4·": "holds '·'",
    "·5H2O": "holds '·'", "Ca(OH·H2O)2": "holds '·'",
    # letters that mean something else
    "FeIIFeIII2O4": "oxidation state", "CrVIO3": "oxidation state", "MnIVO2": "oxidation state", "CuIIO": "oxidation state",
    "Cu(I)2O": "ambiguous", "V(V)2O5": "ambiguous", "Pb(I)3": "ambiguous", "ZnS (W)": "ambiguous", "GaN(W)": "ambiguous",
    "BN(H)": "ambiguous",
    "SiC (C)": "ambiguous", "TiO2(B)": "ambiguous", "ZrO2(T)": "ambiguous", "C(D)": "ambiguous", "HfO2 (O)": "ambiguous",
    "Zn(OAc)2": "ambiguous",
    "NaOAc": "ambiguous", "Ti(OPr)4": "ambiguous", "TIO2": "ambiguous", "TIN": "ambiguous", "YBCO": "abbreviation", "BSCCO": "abbreviation",
    "ITO": "abbreviation", "STO": "abbreviation", "BST": "abbreviation", "Fe3O4@SiO2": "composite", "ZnS (ZB)": "unknown element",
    "Li7La3Zr2O12 (LLZO)": "unknown element", "NMC811": "unknown element", "FE2O3": "unknown element", "NACL": "unknown element",
    "Zn(acac)2": "holds", "iron": "holds", "nan": "holds", "None": "unknown element", "N/A": "holds '/'", "-": "holds '-'",
    "?": "holds '?'",
    # variables
    "Ba1-xSrxTiO3": "variable", "Li1+xAlxTi2-x(PO4)3": "variable", "YBa2Cu3O7-δ": "variable", "YBa2Cu3O7−δ": "variable",
    "Fe1-xO": "variable",
    "Fe(1-x)O": "variable", "Tl2Ba2Ca2Cu3O10+d": "variable", "Li0.5CoO2-d": "variable", "SiO2.nH2O": "variable", "V2O5·nH2O": "variable",
    "SiO2.xH2O": "variable", "LixCoO2": "unknown element", "Six": "unknown element", "(C2H4)n": "holds",
    # mixtures, alloys, isotopes
    "Ti-6Al-4V": "alloy", "Ni-20Cr": "alloy", "PbTe-2%Na": "alloy", "Fe-C": "alloy", "(Na0.5K0.5)NbO3-0.05LiNbO3": "alloy",
    "0.94(Bi0.5Na0.5)TiO3-0.06BaTiO3": "holds '0'", "50Li2O-50B2O3": "holds '5'", "Nb2O5/TiO2": "holds '/'", "Al2O3:Cr": "holds ':'",
    "Al2O3:0.1%Cr": "holds ':'", "Pb(Zr0.52,Ti0.48)O3": "holds ','", "(Mg,Fe)2SiO4": "holds ','", "Li0,5CoO2": "holds ','",
    "Fe95%": "holds '%'",
    "U-235": "isotope", "7Li3N": "holds '7'", "⁷Li": "holds", "13CO2": "holds '1'", "[13C]O2": "holds '1'", "2Fe": "holds '2'",
    # charges
    "Fe2+": "charges", "Fe+3": "charges", "O2-": "charges", "SO4 2-": "holds '2'", "SO4^2-": "charges", "[Fe(CN)6]4-": "charges",
    "Na1+Cl1-": "charges", "Mn+2O-2": "charges", "Fe3+2O2-3": "charges", "Fe²⁺": "holds", "Fe(3+)": "holds", "NO3⁻": "charges",
    # numbers and brackets
    "Fe0O2": "negative or zero", "Fe(OH)0": "negative or zero", "Fe-2O3": "negative", "Fe2 3": "holds '3'", "HfO2 1.5": "holds '1'",
    "Fe1e-9O": "1e-09", "Fe1e400": "inf", "F e2": "holds 'e'", "Fe２O３": "holds", "Fe(OH": "unbalanced", "FeOH)2": "unbalanced",
    "Fe(OH]2": "unbalanced", "Fe()2": "empty brackets", "Fe_2O_3": "holds '_'", "$Fe_{2}O_{3}$": "holds '$'",
    "Fe<sub>2</sub>O3": "holds '<'",
    "": "empty", " ": "empty", "@": "holds no element", "Li□2": "holds '□'", "Fe2O3!": "holds '!'", "[Xe]4f14": "holds",
}  # fmt: skip
"""Formula -> part of the reason."""

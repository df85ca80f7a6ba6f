"""What methods are cited as: the words in the text, and the entry that they stand for."""

REFERENCES = {
    "Bao et al. 2022": "Bao H, Dong L, Piao S, Wei F. BEiT: BERT pre-training of image transformers. ICLR 2022.",
    "Cardoso et al. 2022": (
        "Cardoso MJ, et al. MONAI: an open-source framework for deep learning in healthcare. arXiv:2211.02701, 2022."
    ),
    "Chen et al. 2020": (
        "Chen T, Kornblith S, Norouzi M, Hinton G. A simple framework for contrastive learning of visual "
        "representations. ICML 2020."
    ),
    "DeLong et al. 1988": (
        "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated receiver operating "
        "characteristic curves: a nonparametric approach. Biometrics 44:837–845, 1988."
    ),
    "Dosovitskiy et al. 2021": (
        "Dosovitskiy A, et al. An image is worth 16x16 words: transformers for image recognition at scale. ICLR 2021."
    ),
    "Dufumier et al. 2021": (
        "Dufumier B, et al. Contrastive learning with continuous proxy meta-data for 3D MRI classification. MICCAI "
        "2021."
    ),
    "Efron 1987": "Efron B. Better bootstrap confidence intervals. J Am Stat Assoc 82:171–185, 1987.",
    "Falcon et al. 2019": "Falcon W, The PyTorch Lightning team. PyTorch Lightning. 2019. doi:10.5281/zenodo.3828935.",
    "Fisch et al. 2024": (
        "Fisch L, et al. deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks. Comput "
        "Biol Med 179:108845, 2024."
    ),
    "Fonov et al. 2011": (
        "Fonov V, et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 54:313–327, 2011."
    ),
    "Gao et al. 2021": (
        "Gao L, Zhang Y, Han J, Callan J. Scaling deep contrastive learning batch size under memory limited setup. "
        "RepL4NLP 2021."
    ),
    "Hara et al. 2018": (
        "Hara K, Kataoka H, Satoh Y. Can spatiotemporal 3D CNNs retrace the history of 2D CNNs and ImageNet? CVPR 2018."
    ),
    "He et al. 2016": "He K, Zhang X, Ren S, Sun J. Deep residual learning for image recognition. CVPR 2016.",
    "He et al. 2022": (
        "He K, Chen X, Xie S, Li Y, Dollár P, Girshick R. Masked autoencoders are scalable vision learners. CVPR 2022."
    ),
    "Holm 1979": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 6:65–70, 1979.",
    "Hoopes et al. 2022": (
        "Hoopes A, Mora JS, Dalca AV, Fischl B, Hoffmann M. SynthStrip: skull-stripping for any brain image. "
        "NeuroImage 260:119474, 2022."
    ),
    "Huang et al. 2017": (
        "Huang G, Liu Z, van der Maaten L, Weinberger KQ. Densely connected convolutional networks. CVPR 2017."
    ),
    "Isensee et al. 2024": (
        "Isensee F, et al. nnU-Net revisited: a call for rigorous validation in 3D medical image segmentation. MICCAI "
        "2024."
    ),
    "Kaczmarek et al. 2025": (
        "Kaczmarek E, Szeto J, Nichyporuk B, Arbel T. Building a general SimCLR self-supervised foundation model "
        "across neurological diseases to advance 3D brain MRI diagnoses. ICCV Workshops 2025. "
        "doi:10.1109/ICCVW69036.2025.00141."
    ),
    "Kingma & Ba 2015": "Kingma DP, Ba J. Adam: a method for stochastic optimization. ICLR 2015.",
    "Loshchilov & Hutter 2017": (
        "Loshchilov I, Hutter F. SGDR: stochastic gradient descent with warm restarts. ICLR 2017."
    ),
    "Loshchilov & Hutter 2019": "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR 2019.",
    "Lowekamp et al. 2013": (
        "Lowekamp BC, Chen DT, Ibáñez L, Blezek D. The design of SimpleITK. Front Neuroinform 7:45, 2013."
    ),
    "Newcombe 1998": (
        "Newcombe RG. Interval estimation for the difference between independent proportions: comparison of eleven "
        "methods. Stat Med 17:873–890, 1998."
    ),
    "Newcombe 2006": (
        "Newcombe RG. Confidence intervals for an effect size measure based on the Mann–Whitney statistic. Part 2: "
        "asymptotic methods and evaluation. Stat Med 25:559–573, 2006."
    ),
    "Obuchowski 1997": (
        "Obuchowski NA. Nonparametric analysis of clustered ROC curve data. Biometrics 53:567–578, 1997."
    ),
    "Paszke et al. 2019": (
        "Paszke A, et al. PyTorch: an imperative style, high-performance deep learning library. NeurIPS 2019."
    ),
    "Pedregosa et al. 2011": (
        "Pedregosa F, et al. Scikit-learn: machine learning in Python. J Mach Learn Res 12:2825–2830, 2011."
    ),
    "Peng et al. 2021": (
        "Peng H, Gong W, Beckmann CF, Vedaldi A, Smith SM. Accurate brain age prediction with lightweight deep neural "
        "networks. Med Image Anal 68:101871, 2021."
    ),
    "Shinohara et al. 2014": (
        "Shinohara RT, et al. Statistical normalization techniques for magnetic resonance imaging. NeuroImage Clin "
        "6:9–19, 2014. doi:10.1016/j.nicl.2014.08.008."
    ),
    "Tustison et al. 2010": (
        "Tustison NJ, et al. N4ITK: improved N3 bias correction. IEEE Trans Med Imaging 29:1310–1320, 2010. "
        "doi:10.1109/TMI.2010.2046908."
    ),
    "Wilson 1927": (
        "Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat Assoc 22:209–212, "
        "1927."
    ),
    "You et al. 2017": (
        "You Y, Gitman I, Ginsburg B. Large batch training of convolutional networks. arXiv:1708.03888, 2017."
    ),
}


def references(text: str) -> list[str]:
    """The entries of what a text cites, in the order of their names."""
    return [entry for name, entry in sorted(REFERENCES.items()) if name in text]
